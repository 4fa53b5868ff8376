//! The log: lines on the console, and the last of them kept for whoever asks.

use core::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::OnceLock;

use ::log::{Level, LevelFilter, Log, Metadata, Record};

use super::CivilTime;
use crate::boot;
use crate::device::{Clock, Console, Instant};
use crate::host::{Machine, guest, process};

/// Bytes of log lines kept for [`recent_events`].
const RECENT_BYTES: usize = 64 * 1024;

/// Lines written in one second at most; the rest is counted, and the count is written when the second is over. A flood
/// of events must not become a flood of slow console output.
const LINES_PER_SECOND: u32 = 200;

/// Longest text of an event, in bytes: what peers sent may be in it. With time, level and target a line stays below
/// 1,024 bytes.
const MAX_TEXT: usize = 896;

/// Takes events besides the console. It must not wait, and what it logs itself reaches the console alone.
pub trait Sink {
    /// Something was logged.
    fn event(&self, time: CivilTime, level: Level, target: &str, text: &str);
}

struct Logger {
    clock: Rc<dyn Clock>,
    console: Rc<dyn Console>,
    recent: RefCell<RecentEvents>,
    second: Cell<u64>,
    lines: Cell<u32>,
    suppressed: Cell<u32>,
    sinks: RefCell<Vec<Box<dyn Sink>>>,
}

/// The log is a global by `log`'s design; the image has one thread, and nothing but this says so to the compiler.
struct OneThread(Logger);

// SAFETY: an image has one thread, on which `start` sets the logger and everything logs.
unsafe impl Send for OneThread {}
// SAFETY: as above.
unsafe impl Sync for OneThread {}

static LOGGER: OnceLock<OneThread> = OnceLock::new();

/// The newest log lines, oldest first.
#[derive(Clone, Debug, Default)]
pub struct RecentEvents {
    lines: VecDeque<String>,
    bytes: usize,
}

impl RecentEvents {
    /// The lines, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > RECENT_BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }
}

/// Has everything that is logged written to the machine's console, and panics reported there. Called once.
pub fn start(machine: &Machine, level: LevelFilter) {
    if boot::is_guest() {
        guest::install_panic_hook();
    } else {
        process::install_panic_hook();
    }
    let logger = Logger {
        clock: Rc::clone(&machine.clock),
        console: Rc::clone(&machine.console),
        recent: RefCell::default(),
        second: Cell::new(0),
        lines: Cell::new(0),
        suppressed: Cell::new(0),
        sinks: RefCell::default(),
    };
    if ::log::set_logger(LOGGER.get_or_init(|| OneThread(logger))).is_ok() {
        ::log::set_max_level(level);
    }
}

/// Gives everything that is logged from now on to `sink` as well. Without effect in tests, which have no log of the
/// image's.
pub fn add_sink(sink: impl Sink + 'static) {
    if let Some(mut sinks) = LOGGER.get().and_then(|logger| logger.0.sinks.try_borrow_mut().ok()) {
        sinks.push(Box::new(sink));
    }
}

/// The newest log lines. Empty in tests, which have no log of the image's.
#[must_use]
pub fn recent_events() -> RecentEvents {
    LOGGER.get().map(|logger| logger.0.recent.borrow().clone()).unwrap_or_default()
}

impl Log for OneThread {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.log(record);
    }

    fn flush(&self) {}
}

impl Logger {
    fn log(&self, record: &Record<'_>) {
        if !self.admit() {
            return;
        }
        let time = CivilTime::from_wall(self.clock.wall());
        let (level, target) = (record.level(), record.target());
        let text = one_line(record.args().to_string());
        self.write(format!("{time} {level:<5} {target}: {text}"));
        // Already lent out, the sinks are at work: what they log themselves is not for them.
        if let Ok(sinks) = self.sinks.try_borrow_mut() {
            sinks.iter().for_each(|sink| sink.event(time, level, target, &text));
        }
    }

    fn write(&self, mut line: String) {
        line.push('\n');
        self.console.write(line.as_bytes());
        self.recent.borrow_mut().push(line);
    }

    /// Whether there may be another line in this second.
    fn admit(&self) -> bool {
        let second = self.clock.now().since(Instant::START).as_secs();
        if self.second.replace(second) != second {
            self.lines.set(0);
            let suppressed = self.suppressed.take();
            if suppressed > 0 {
                let time = CivilTime::from_wall(self.clock.wall());
                self.write(format!("{time} WARN  log: {suppressed} lines were left out"));
            }
        }
        let lines = self.lines.get();
        if lines >= LINES_PER_SECOND {
            self.suppressed.set(self.suppressed.get() + 1);
            return false;
        }
        self.lines.set(lines + 1);
        true
    }
}

/// One event is one line of bounded length, whatever a peer put into it.
fn one_line(mut text: String) -> String {
    if text.contains(char::is_control) {
        text = text.replace(char::is_control, "\u{fffd}");
    }
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::ManualClock;
    use core::time::Duration;

    #[derive(Default)]
    struct Written(RefCell<String>);

    impl Console for Written {
        fn write(&self, text: &[u8]) {
            self.0.borrow_mut().push_str(&String::from_utf8_lossy(text));
        }
    }

    fn logger() -> (Logger, Rc<ManualClock>, Rc<Written>) {
        let (clock, console) = (Rc::new(ManualClock::new(Duration::from_secs(784_111_777))), Rc::default());
        let logger = Logger {
            clock: clock.clone(),
            console: Rc::clone(&console) as Rc<dyn Console>,
            recent: RefCell::default(),
            second: Cell::new(0),
            lines: Cell::new(0),
            suppressed: Cell::new(0),
            sinks: RefCell::default(),
        };
        (logger, clock, console)
    }

    fn record(logger: &Logger, text: &str) {
        let arguments = format_args!("{text}").to_string();
        logger.log(
            &Record::builder()
                .level(::log::Level::Info)
                .target("test")
                .args(format_args!("{arguments}"))
                .build(),
        );
    }

    #[test]
    fn lines_have_time_level_and_source_and_nothing_that_breaks_them() {
        let (logger, _, console) = logger();
        record(&logger, "a\nforged line");
        assert_eq!(*console.0.borrow(), "1994-11-06T08:49:37.000Z INFO  test: a\u{fffd}forged line\n");
    }

    #[test]
    fn a_flood_is_cut_and_counted_and_the_ring_stays_bounded() {
        let (logger, clock, console) = logger();
        for _ in 0..1000 {
            record(&logger, &"x".repeat(5000));
        }
        clock.advance(Duration::from_secs(1));
        record(&logger, "after");
        assert!(console.0.borrow().contains("800 lines were left out"));
        assert!(console.0.borrow().lines().all(|line| line.len() <= 1024));
        assert!(logger.recent.borrow().bytes <= RECENT_BYTES);
        assert!(logger.recent.borrow().lines().last().is_some_and(|line| line.ends_with("after\n")));
    }

    #[test]
    fn sinks_are_told_and_what_they_log_is_not_told_to_them() {
        struct Loud(Rc<Logger>, Rc<RefCell<Vec<String>>>);
        impl Sink for Loud {
            fn event(&self, _: CivilTime, level: Level, target: &str, text: &str) {
                self.1.borrow_mut().push(format!("{level} {target} {text}"));
                record(&self.0, "from the sink");
            }
        }
        let (logger, _clock, console) = logger();
        let (logger, told) = (Rc::new(logger), Rc::default());
        logger.sinks.borrow_mut().push(Box::new(Loud(Rc::clone(&logger), Rc::clone(&told))));
        record(&logger, "one\ntwo");
        assert_eq!(*told.borrow(), ["INFO test one\u{fffd}two"]);
        assert_eq!(console.0.borrow().lines().count(), 2);
        logger.sinks.borrow_mut().clear();
    }
}

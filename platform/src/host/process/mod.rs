//! The image as an ordinary Linux process: taps or a stream socket for its network, files for its disks, and after
//! start-up a seccomp filter of fewer than ten system calls.
//!
//! The event loop sleeps in `ppoll`. Each device has one descriptor and one waker slot ([`Readiness`]); SIGTERM,
//! SIGINT and SIGHUP arrive on a descriptor as well.

mod block;
mod bundle;
mod clock;
mod console;
mod entropy;
mod filter;
#[cfg(feature = "provoke")]
pub mod provoke;
mod stream;
mod system;
mod tap;

pub use bundle::BundleFile;
pub use filter::SYSTEM_CALLS;

use core::cell::{Cell, RefCell};
use core::fmt;
use core::task::Waker;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::rc::Rc;

use super::{Host, Machine, Named, Reload, Shutdown};
use crate::device::{Block, Clock, Instant, Net};
use crate::memory::Arena;

/// How a network device of the process reaches a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetBackend {
    /// A tap device of this name, which exists or may be made.
    Tap(String),
    /// A connected stream socket in QEMU's framing (a big-endian 32-bit length before each frame), inherited as this
    /// descriptor; passt speaks it.
    StreamDescriptor(RawFd),
    /// The same, by connecting to this Unix socket.
    StreamPath(PathBuf),
}

/// What the process is given to work with.
#[derive(Clone, Debug, Default)]
pub struct ProcessOptions {
    /// Network devices: names, and how each is reached.
    pub nets: Vec<(String, NetBackend)>,
    /// Ethernet addresses of the network devices, in their order; random ones (locally administered) where missing.
    pub macs: Vec<[u8; 6]>,
    /// Block devices: names, and the file that each is.
    pub blocks: Vec<(String, PathBuf)>,
    /// The file of the configuration bundle.
    pub bundle: Option<PathBuf>,
}

/// Why the process could not be set up. Names the device or file, and what would be right.
#[derive(Debug)]
pub struct ProcessError(String);

impl ProcessError {
    fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }

    /// With the error of the last system call.
    fn system(what: impl fmt::Display) -> Self {
        Self(format!("{what}: {}", std::io::Error::last_os_error()))
    }
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ProcessError {}

/// The readiness of one descriptor: what a device waits for, and whom to wake.
#[derive(Default)]
struct Readiness {
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

impl Readiness {
    fn wait_readable(&self, waker: &Waker) {
        store(&self.reader, waker);
    }

    fn wait_writable(&self, waker: &Waker) {
        store(&self.writer, waker);
    }
}

fn store(slot: &RefCell<Option<Waker>>, waker: &Waker) {
    let mut slot = slot.borrow_mut();
    match &mut *slot {
        Some(stored) => stored.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}

/// The event loop of the process.
pub struct Process {
    clock: Rc<dyn Clock>,
    descriptors: Vec<(RawFd, Rc<Readiness>)>,
    signals: RawFd,
    shutdown: Shutdown,
    reload: Reload,
    polled: RefCell<Vec<libc::pollfd>>,
    turns_without_poll: Cell<u32>,
}

/// While tasks are ready, descriptors are polled only every so many turns: devices find new input by reading.
const TURNS_BETWEEN_POLLS: u32 = 4;

impl Host for Process {
    fn wait(&self, until: Option<Instant>) {
        let now = self.clock.now();
        let busy = until.is_some_and(|until| until <= now);
        if busy && self.turns_without_poll.replace(self.turns_without_poll.get() + 1) < TURNS_BETWEEN_POLLS {
            return;
        }
        self.turns_without_poll.set(0);
        let mut polled = self.polled.borrow_mut();
        polled.clear();
        for (descriptor, readiness) in &self.descriptors {
            let mut events = 0;
            if readiness.reader.borrow().is_some() {
                events |= libc::POLLIN;
            }
            if readiness.writer.borrow().is_some() {
                events |= libc::POLLOUT;
            }
            // A descriptor that nobody waits for is passed over (poll(2) ignores negative ones): one in error would
            // otherwise end every sleep at once.
            let fd = if events == 0 { -1 } else { *descriptor };
            polled.push(libc::pollfd { fd, events, revents: 0 });
        }
        polled.push(libc::pollfd { fd: self.signals, events: libc::POLLIN, revents: 0 });
        system::poll(&mut polled, until.map(|until| until.since(now)));
        let Some((signals, devices)) = polled.split_last() else { return };
        for (result, (_, readiness)) in devices.iter().zip(&self.descriptors) {
            let failed = result.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0;
            if failed || result.revents & libc::POLLIN != 0 {
                wake(&readiness.reader);
            }
            if failed || result.revents & libc::POLLOUT != 0 {
                wake(&readiness.writer);
            }
        }
        if signals.revents & libc::POLLIN != 0 {
            match system::take_signal(self.signals) {
                Some(libc::SIGHUP) => self.reload.request(),
                Some(_) => self.shutdown.request(),
                None => {}
            }
        }
    }
}

fn wake(slot: &RefCell<Option<Waker>>) {
    if let Some(waker) = slot.borrow_mut().take() {
        waker.wake();
    }
}

/// Closes every descriptor that whoever started the image left open: all but the standard three, of which a bundle may
/// come through the first, and those that are network devices.
fn close_inherited(options: &ProcessOptions) {
    let mut keep = vec![libc::STDIN_FILENO, libc::STDOUT_FILENO];
    keep.extend(options.nets.iter().filter_map(|(_, backend)| match backend {
        NetBackend::StreamDescriptor(descriptor) => Some(*descriptor),
        NetBackend::Tap(_) | NetBackend::StreamPath(_) => None,
    }));
    system::close_all_but(&keep);
}

/// Opens everything that `options` names.
///
/// # Errors
/// The first thing that could not be opened, and why.
pub fn machine(options: &ProcessOptions) -> Result<Machine, ProcessError> {
    close_inherited(options);
    let clock: Rc<dyn Clock> = Rc::new(clock::ProcessClock::new());
    let entropy = Rc::new(entropy::seeded()?);
    let shutdown = Shutdown::default();
    let mut descriptors = Vec::new();
    let mut nets = Vec::new();
    for (index, (name, backend)) in options.nets.iter().enumerate() {
        let mac = options.macs.get(index).copied().unwrap_or_else(|| entropy::random_mac(&*entropy));
        let device: Box<dyn Net> = match backend {
            NetBackend::Tap(tap) => {
                let (device, descriptor, readiness) = tap::Tap::open(tap, mac)?;
                descriptors.push((descriptor, readiness));
                Box::new(device)
            }
            NetBackend::StreamDescriptor(_) | NetBackend::StreamPath(_) => {
                let (device, descriptor, readiness) = stream::Stream::open(backend, mac)?;
                descriptors.push((descriptor, readiness));
                Box::new(device)
            }
        };
        nets.push(Named { name: name.clone(), device });
    }
    let mut blocks = Vec::new();
    for (name, path) in &options.blocks {
        let (device, flusher) = block::FileBlock::open(path)?;
        descriptors.push(flusher);
        let device: Box<dyn Block> = Box::new(device);
        blocks.push(Named { name: name.clone(), device });
    }
    let (bundle, bundle_file) = match &options.bundle {
        Some(path) => {
            let (content, file) = BundleFile::open(path)?;
            (Some(content), file)
        }
        None => (None, None),
    };
    let reload = Reload::default();
    let signals = system::signal_descriptor()?;
    let host = Process {
        clock: Rc::clone(&clock),
        descriptors,
        signals,
        shutdown: shutdown.clone(),
        reload: reload.clone(),
        polled: RefCell::default(),
        turns_without_poll: Cell::new(0),
    };
    Ok(Machine {
        kind: "process".to_owned(),
        host: Rc::new(host),
        clock,
        entropy,
        console: Rc::new(console::StandardError),
        nets,
        blocks,
        bundle,
        bundle_file,
        reload,
        shutdown,
    })
}

/// Has every panic print its message and raw return addresses: `std`'s own hook would look for symbols in files.
pub fn install_panic_hook() {
    super::panic::install_hook::<console::StandardError>();
}

/// Maps the arena's memory and gives it to the arena. The kernel backs a page when it is first touched.
///
/// # Errors
/// When the kernel has no room for it.
pub fn claim_memory(arena: &Arena, mib: usize) -> Result<(), ProcessError> {
    let size = mib << 20;
    let base = system::map(size)?;
    // SAFETY: a mapping of its own, of this size, that is never unmapped.
    unsafe { arena.claim(base, size) };
    Ok(())
}

/// Ends the process at once, with what std would still do on its way out left undone.
pub fn exit(status: u8) -> ! {
    system::exit(status.into())
}

/// Gives up every right and system call that the running image does not need. From here on a call outside of
/// [`SYSTEM_CALLS`] ends the process.
///
/// # Errors
/// When the kernel refuses the filter.
pub fn lock_down() -> Result<(), ProcessError> {
    // What is logged goes to standard error; the other two are needed no more.
    system::close(libc::STDIN_FILENO);
    system::close(libc::STDOUT_FILENO);
    filter::install()
}

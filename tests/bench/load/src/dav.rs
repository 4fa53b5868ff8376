//! Calendar loads: events stored, fetched, and asked for in a report.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::http::{Answer, Client};

/// Stores distinct 1 KB events for some seconds.
pub(crate) fn put(
    server: &str,
    path: &str,
    user: &str,
    clients: &str,
    seconds: &str,
) -> Result<String, Failure> {
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let numbers = AtomicU64::new(0);
    measure(server, user, clients, |client| {
        if Instant::now() >= end {
            return None;
        }
        Some(store(client, path, numbers.fetch_add(1, Ordering::Relaxed)))
    })
}

/// Stores a number of events.
pub(crate) fn fill(
    server: &str,
    path: &str,
    user: &str,
    clients: &str,
    events: &str,
) -> Result<String, Failure> {
    let events: u64 = events.parse()?;
    let numbers = AtomicU64::new(0);
    measure(server, user, clients, |client| {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        (number < events).then(|| store(client, path, number))
    })
}

/// Writes the events of `fill` to a directory, a file each.
pub(crate) fn write(directory: &str, events: &str) -> Result<String, Failure> {
    let events: u64 = events.parse()?;
    for number in 0..events {
        std::fs::write(format!("{directory}/bench-{number}.ics"), event(number))?;
    }
    Ok(format!("events={events}"))
}

/// Fetches random ones of `events` stored by `fill`.
pub(crate) fn get(
    server: &str,
    path: &str,
    user: &str,
    clients: &str,
    seconds: &str,
    events: &str,
) -> Result<String, Failure> {
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let events: u64 = events.parse()?;
    let numbers = AtomicU64::new(1);
    measure(server, user, clients, |client| {
        if Instant::now() >= end {
            return None;
        }
        let number = numbers.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        Some(client.request("GET", &format!("{path}bench-{}.ics", number % events), "", b""))
    })
}

/// Sends the REPORT in a file again and again.
pub(crate) fn report(
    server: &str,
    path: &str,
    user: &str,
    clients: &str,
    seconds: &str,
    body: &str,
) -> Result<String, Failure> {
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let body = std::fs::read(body)?;
    measure(server, user, clients, |client| {
        let headers = "Depth: 1\r\nContent-Type: application/xml; charset=utf-8\r\n";
        (Instant::now() < end).then(|| client.request("REPORT", path, headers, &body))
    })
}

fn store(client: &mut Client, path: &str, number: u64) -> Result<Answer, Failure> {
    let headers = "Content-Type: text/calendar; charset=utf-8\r\n";
    client.request("PUT", &format!("{path}bench-{number}.ics"), headers, event(number).as_bytes())
}

/// An event of a kilobyte; their dates lie all over the years 2020 to 2029.
fn event(number: u64) -> String {
    let (year, month, day) = (2020 + number % 10, 1 + number / 10 % 12, 1 + number / 120 % 28);
    let hour = number / 3360 % 23;
    let mut text = format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//skerry//bench//EN\r\nBEGIN:VEVENT\r\n\
         UID:bench-{number}@skerry\r\nDTSTAMP:20260101T000000Z\r\n\
         DTSTART:{year}{month:02}{day:02}T{hour:02}0000Z\r\nDTEND:{year}{month:02}{day:02}T{hour:02}3000Z\r\n\
         SUMMARY:Event number {number}\r\n"
    );
    let mut line = 0;
    while text.len() < 980 {
        let _ = write!(text, "X-NOTE-{line}:What was said about event {number} and is kept\r\n");
        line += 1;
    }
    text.push_str("END:VEVENT\r\nEND:VCALENDAR\r\n");
    text
}

/// Runs clients side by side until each has nothing more to do.
fn measure(
    server: &str,
    user: &str,
    clients: &str,
    next: impl Fn(&mut Client) -> Option<Result<Answer, Failure>> + Sync,
) -> Result<String, Failure> {
    let clients: usize = clients.parse()?;
    let start = Instant::now();
    let outcomes: Vec<Result<(Vec<Duration>, usize), Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::new(server, user);
                    let (mut times, mut bytes) = (Vec::new(), 0);
                    loop {
                        let start = Instant::now();
                        let Some(answer) = next(&mut client) else { return Ok((times, bytes)) };
                        let answer = answer?;
                        if !(200..300).contains(&answer.status) {
                            return Err(format!("status {}", answer.status).into());
                        }
                        times.push(start.elapsed());
                        bytes += answer.length;
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a client panicked".into())))
            .collect()
    });
    let elapsed = start.elapsed().as_secs_f64();
    let (mut times, mut bytes) = (Vec::new(), 0);
    for outcome in outcomes {
        let (more, length) = outcome?;
        times.extend(more);
        bytes += length;
    }
    times.sort_unstable();
    let at = |part: f64| {
        let index = (times.len() as f64 * part) as usize;
        times.get(index.min(times.len().saturating_sub(1))).map_or(0.0, Duration::as_secs_f64) * 1e3
    };
    Ok(format!(
        "requests={} per_second={:.1} median_ms={:.3} p99_ms={:.3} bytes={bytes}",
        times.len(),
        times.len() as f64 / elapsed,
        at(0.5),
        at(0.99),
    ))
}

//! Writes a disk with many requests in flight, flushes, and reads it back.

use std::collections::HashMap;
use std::future::poll_fn;
use std::time::Duration;

use platform::device::{Block, BlockError, Clock, Completion, Operation, Request, RequestId};
use platform::executor::Handle;

/// How much of a disk is exercised.
const SPAN: u64 = 16 << 20;
const CHUNK: usize = 64 << 10;

/// What stands at `offset` afterwards: the offset itself, so that nothing can be at a wrong place unnoticed.
fn content(offset: u64) -> Vec<u8> {
    (0..CHUNK as u64 / 8).flat_map(|word| (offset + word * 8).to_le_bytes()).collect()
}

/// Tells each time the disk has grown.
pub(crate) async fn watch(name: String, block: Box<dyn Block>, handle: Handle) {
    let mut capacity = block.properties().capacity;
    loop {
        handle.sleep(Duration::from_secs(1)).await;
        let now = block.properties().capacity;
        if now != capacity {
            println!("{name} has grown to {now} bytes");
            capacity = now;
        }
    }
}

/// Exercises a disk, and returns how fast it was.
pub(crate) async fn exercise(block: &mut dyn Block, clock: &dyn Clock) -> Result<String, String> {
    let properties = block.properties();
    let span = SPAN.min(properties.capacity) / CHUNK as u64 * CHUNK as u64;
    let mut report = String::new();
    let mut rate = |what: &str, start| {
        let seconds = clock.now().since(start).as_secs_f64();
        report += &format!("{what} {:.0} MiB/s, ", span as f64 / (1 << 20) as f64 / seconds);
    };
    if properties.read_only {
        let refused = block.submit(Request { operation: Operation::Write, offset: 0, buffer: vec![0; 4096] });
        if refused.err().map(|(error, _)| error) != Some(BlockError::ReadOnly) {
            return Err("a write to a read-only disk was not refused".into());
        }
    } else {
        let start = clock.now();
        all(block, Operation::Write, span, |offset, buffer| *buffer = content(offset), |_, _| Ok(())).await?;
        rate("wrote", start);
        flush(block).await?;
    }
    let start = clock.now();
    let verify = |offset, buffer: &[u8]| {
        (buffer == content(offset)).then_some(()).ok_or(format!("wrong data at {offset}"))
    };
    all(block, Operation::Read, span, |_, buffer| *buffer = vec![0; CHUNK], verify).await?;
    rate("read and verified", start);

    let beyond = Request { operation: Operation::Read, offset: properties.capacity, buffer: vec![0; 4096] };
    if block.submit(beyond).err().map(|(error, _)| error) != Some(BlockError::OutOfRange) {
        return Err("a read past the end was not refused".into());
    }
    synchronous(block)?;
    Ok(report + "ok")
}

/// Has a request for each chunk of the disk in flight, as many as it takes, and looks at each that completes.
async fn all(
    block: &mut dyn Block,
    operation: Operation,
    span: u64,
    fill: impl Fn(u64, &mut Vec<u8>),
    check: impl Fn(u64, &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let mut in_flight: HashMap<RequestId, u64> = HashMap::new();
    let mut offset = 0;
    let mut deepest = 0;
    while offset < span || !in_flight.is_empty() {
        while offset < span {
            let mut buffer = Vec::new();
            fill(offset, &mut buffer);
            match block.submit(Request { operation, offset, buffer }) {
                Ok(id) => {
                    in_flight.insert(id, offset);
                    offset += CHUNK as u64;
                }
                Err((BlockError::Busy, _)) => break,
                Err((error, _)) => return Err(error.to_string()),
            }
        }
        deepest = deepest.max(in_flight.len());
        let Completion { id, result, buffer } = poll_fn(|context| block.poll_complete(context)).await;
        result.map_err(|error| error.to_string())?;
        let at = in_flight.remove(&id).ok_or("a completion of no request")?;
        check(at, &buffer)?;
    }
    if deepest < 2 {
        return Err("there was one request in flight at a time".into());
    }
    Ok(())
}

async fn flush(block: &mut dyn Block) -> Result<(), String> {
    let request = Request { operation: Operation::Flush, offset: 0, buffer: Vec::new() };
    let id = block.submit(request).map_err(|(error, _)| error.to_string())?;
    let completion = poll_fn(|context| block.poll_complete(context)).await;
    if completion.id != id {
        return Err("a completion of another request".into());
    }
    completion.result.map_err(|error| error.to_string())
}

/// The way that holds everything else up.
fn synchronous(block: &mut dyn Block) -> Result<(), String> {
    let request = Request { operation: Operation::Read, offset: 0, buffer: vec![0; CHUNK] };
    block.submit(request).map_err(|(error, _)| error.to_string())?;
    let completion = block.wait_complete().ok_or("nothing to wait for")?;
    completion.result.map_err(|error| error.to_string())?;
    if completion.buffer != content(0) {
        return Err("wrong data in the synchronous read".into());
    }
    Ok(())
}

//! The configuration while the image runs: read again when it is asked for, or when its block device has changed.
//!
//! A process is asked by SIGHUP, and reads its file. A virtual machine has nobody who asks: it looks at its block device
//! once a minute. Whoever replaces the configuration writes into the same file; a renamed one is another file.

use core::future::poll_fn;
use core::hash::Hasher;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::hash::DefaultHasher;

use super::Failure;
use crate::config::{Bundle, MAX_BUNDLE};
use crate::device::{Block, Operation, Request};
use crate::executor::Handle;
use crate::host::Reload;
use crate::host::process::BundleFile;

/// How often a block device is looked at: one wake-up of an idle image, and soon enough for a certificate.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// A block device that has changed must be the same after this time: nobody is writing to it any more.
const SETTLED: Duration = Duration::from_secs(1);

/// Bytes in one read of a block device.
const CHUNK: usize = 64 * 1024;

/// Where the configuration bundle comes from.
#[derive(Default)]
pub(super) enum Source {
    /// It cannot be read again: there is none, or it is the virtual machine's initrd.
    #[default]
    Fixed,
    /// A file of the process.
    File(BundleFile),
    /// A block device, which holds nothing else.
    Device(Box<dyn Block>),
}

impl Source {
    pub(super) async fn read(&mut self) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Fixed => Err("none was given at the start that could be read again".into()),
            Self::File(file) => Ok(file.read()?),
            Self::Device(device) => read_device(&mut **device).await,
        }
    }
}

/// Reads all of a device. Its end may be zeroes.
async fn read_device(device: &mut dyn Block) -> Result<Vec<u8>, Failure> {
    let length = usize::try_from(device.properties().capacity).unwrap_or(usize::MAX);
    if length > MAX_BUNDLE {
        return Err(format!(
            "block device `config`: a configuration bundle may have at most {MAX_BUNDLE} bytes"
        )
        .into());
    }
    let mut content = Vec::new();
    content.try_reserve_exact(length).map_err(|_| "block device `config`: not enough memory to read it")?;
    while content.len() < length {
        let buffer = vec![0; CHUNK.min(length - content.len())];
        let request = Request { operation: Operation::Read, offset: content.len() as u64, buffer };
        device.submit(request).map_err(|(error, _)| format!("block device `config`: {error}"))?;
        let completion = poll_fn(|context| device.poll_complete(context)).await;
        completion.result.map_err(|error| format!("block device `config`: {error}"))?;
        content.extend_from_slice(&completion.buffer);
    }
    Ok(content)
}

/// The bundles that replace the first one.
pub struct Reloads {
    handle: Handle,
    wish: Reload,
    source: Source,
    /// What a bundle is called that is one file.
    file: String,
    /// The hash of what was read last: secrets are not kept for this.
    seen: u64,
}

impl Reloads {
    pub(super) fn new(handle: Handle, wish: Reload, source: Source, file: String, first: &[u8]) -> Self {
        Self { handle, wish, source, file, seen: hash(first) }
    }

    /// Waits for the next bundle. What cannot be read is logged, and waited on for the one after.
    pub async fn next(&mut self) -> Bundle {
        loop {
            let wished = self.wait().await;
            match self.read(wished).await {
                Ok(Some(bundle)) => return bundle,
                Ok(None) => {}
                Err(error) => log::error!("the configuration stays as it was: {error}"),
            }
        }
    }

    /// Returns whether somebody asks; if not, it is time to look.
    async fn wait(&self) -> bool {
        let looks = matches!(self.source, Source::Device(_));
        let mut interval = pin!(looks.then(|| self.handle.sleep(LOOK_INTERVAL)));
        poll_fn(|context| {
            if self.wish.poll_requested(context).is_ready() {
                return Poll::Ready(true);
            }
            match interval.as_mut().as_pin_mut() {
                Some(sleep) => sleep.poll(context).map(|()| false),
                None => Poll::Pending,
            }
        })
        .await
    }

    async fn read(&mut self, wished: bool) -> Result<Option<Bundle>, Failure> {
        let bytes = self.source.read().await?;
        let found = hash(&bytes);
        if !wished {
            if found == self.seen {
                return Ok(None);
            }
            self.handle.sleep(SETTLED).await;
            if hash(&self.source.read().await?) != found {
                return Ok(None);
            }
        }
        self.seen = found;
        Ok(Some(Bundle::read(&bytes, &self.file)?))
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::device::{ManualClock, MemoryDisk};
    use crate::executor::Executor;
    use crate::host::SimulatedHost;

    fn disk(text: &str) -> MemoryDisk {
        let mut content = vec![0; 3 * CHUNK];
        content[..text.len()].copy_from_slice(text.as_bytes());
        MemoryDisk::with_content(content)
    }

    async fn write(disk: &MemoryDisk, text: &str) {
        let mut disk = disk.clone();
        let mut buffer = text.as_bytes().to_vec();
        buffer.resize(512, 0);
        disk.submit(Request { operation: Operation::Write, offset: 0, buffer }).unwrap();
        poll_fn(|context| disk.poll_complete(context)).await.result.unwrap();
    }

    /// Runs `change` beside a reader of reloads, and returns what the reader got: when, in seconds, and what.
    fn reloads<F: Future<Output = ()> + 'static>(
        change: impl FnOnce(Handle, MemoryDisk, Reload) -> F,
    ) -> Vec<(u64, String)> {
        let clock = Rc::new(ManualClock::new(Duration::from_secs(1_700_000_000)));
        let host = SimulatedHost::new(Rc::clone(&clock));
        let executor = Executor::new(clock);
        let handle = executor.handle();
        let (disk, wish) = (disk("first"), Reload::default());
        let got: Rc<RefCell<Vec<_>>> = Rc::default();
        let mut reloads = Reloads::new(
            handle.clone(),
            wish.clone(),
            Source::Device(Box::new(disk.clone())),
            "a.toml".to_owned(),
            &disk.content(),
        );
        let (to, start) = (Rc::clone(&got), handle.now());
        let clock = handle.clone();
        handle.spawn(async move {
            loop {
                let bundle = reloads.next().await;
                let text = String::from_utf8(bundle.file("a.toml").unwrap().to_vec()).unwrap();
                to.borrow_mut().push((clock.now().since(start).as_secs(), text));
            }
        });
        executor.run(&host, change(handle.clone(), disk, wish)).unwrap();
        got.take()
    }

    #[test]
    fn a_device_that_changed_is_read_once_it_has_settled() {
        let got = reloads(|handle, disk, _| async move {
            handle.sleep(Duration::from_secs(90)).await;
            write(&disk, "second").await;
            handle.sleep(Duration::from_secs(600)).await;
        });
        assert_eq!(got, [(121, "second".to_owned())]);
    }

    #[test]
    fn what_is_still_being_written_is_not_taken() {
        let got = reloads(|handle, disk, _| async move {
            write(&disk, "half").await;
            handle.sleep(LOOK_INTERVAL + SETTLED / 2).await;
            write(&disk, "whole").await;
            handle.sleep(Duration::from_secs(100)).await;
        });
        assert_eq!(got, [(122, "whole".to_owned())]);
    }

    #[test]
    fn who_asks_gets_it_at_once_and_though_nothing_changed() {
        let got = reloads(|handle, disk, wish| async move {
            write(&disk, "second").await;
            wish.request();
            handle.sleep(Duration::from_secs(5)).await;
            wish.request();
            wish.request();
            handle.sleep(Duration::from_secs(100)).await;
        });
        assert_eq!(got, [(0, "second".to_owned()), (5, "second".to_owned())]);
    }

    #[test]
    fn a_damaged_archive_is_left_and_the_next_taken() {
        let got = reloads(|handle, disk, wish| async move {
            let mut damaged = "x".repeat(257);
            damaged.push_str("ustar");
            write(&disk, &damaged).await;
            wish.request();
            handle.sleep(Duration::from_secs(1)).await;
            write(&disk, "second").await;
            wish.request();
            handle.sleep(Duration::from_secs(1)).await;
        });
        assert_eq!(got, [(1, "second".to_owned())]);
    }
}

//! The one seam to the outside. Above it nothing knows whether it runs in a process or in a virtual machine.

pub mod guest;
mod panic;
pub mod process;
mod reload;
mod shutdown;
mod simulated;
pub(crate) mod virtio_header;

pub use reload::Reload;
pub use shutdown::Shutdown;
pub use simulated::SimulatedHost;

use std::rc::Rc;

use crate::device::{Block, Clock, Console, Entropy, Instant, Net};

/// What runs an image: sleeps for it, and tells its devices of what happened meanwhile.
pub trait Host {
    /// Delivers device events: wakes the waker of every device method that may make progress. When none is pending it
    /// sleeps until one comes or `until` has passed, whichever is first; `None` is no deadline, and
    /// [`Instant::START`] (always past) only polls.
    fn wait(&self, until: Option<Instant>);
}

/// A device and the name that the image's manifest gives it.
pub struct Named<D: ?Sized> {
    /// `service` for the first network device and `storage` for the first block device, unless the manifest or the boot
    /// arguments say otherwise.
    pub name: String,
    /// The device.
    pub device: Box<D>,
}

/// Everything a host gives to the image that it runs.
pub struct Machine {
    /// What kind of host it is, for the log: `process`, or `guest` with its hypervisor.
    pub kind: String,
    /// Sleeps and delivers events.
    pub host: Rc<dyn Host>,
    /// Time.
    pub clock: Rc<dyn Clock>,
    /// Randomness.
    pub entropy: Rc<dyn Entropy>,
    /// Where log lines go.
    pub console: Rc<dyn Console>,
    /// Network devices in the order of the manifest.
    pub nets: Vec<Named<dyn Net>>,
    /// Block devices in the order of the manifest.
    pub blocks: Vec<Named<dyn Block>>,
    /// The configuration bundle (a tar archive or one TOML file), if one was given.
    pub bundle: Option<Vec<u8>>,
    /// The process's file that the bundle was read from.
    pub bundle_file: Option<process::BundleFile>,
    /// Tells when the bundle is to be read again: SIGHUP.
    pub reload: Reload,
    /// Tells when the image is to stop: SIGTERM, the power button.
    pub shutdown: Shutdown,
}

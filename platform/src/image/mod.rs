//! The image as a whole: how it starts, what its service is given, and how it ends.
//!
//! A service's `main.rs` is one line of [`image!`](crate::image!) and the wiring of its own parts:
//!
//! ```ignore
//! platform::image!(include_str!("../image.toml"), service);
//!
//! async fn service(mut image: Image) -> Result<(), Failure> { ... }
//! ```

mod reload;
mod start;

pub use reload::Reloads;
pub use start::{EXIT_CONFIGURATION, EXIT_FAILURE, start};

use core::fmt;
use std::rc::Rc;

use serde::de::DeserializeOwned;

use crate::config::{self, Arguments, Bundle, ConfigurationError, Ipv4Argument, Ipv6Argument, Manifest};
use crate::device::{Block, Console, Entropy, Net};
use crate::executor::Handle;
use crate::host::{Named, Shutdown};
use crate::memory::{Arena, MemoryUse};
use crate::net::{
    InterfaceIdentifier, Ipv4Configuration, Ipv6Configuration, NtpServer, Stack, StackConfiguration,
    StaticAddresses,
};
use crate::observe::{self, Syslog};
use crate::storage::{self, OpenError, Storage, StorageOptions};

/// What ends a service, or keeps it from starting: said on the console.
pub type Failure = Box<dyn std::error::Error>;

/// Makes a program the image of a service: its allocator, its `main`.
///
/// The first argument is the text of `image.toml`, the second an `async fn(Image) -> Result<(), Failure>`.
#[macro_export]
macro_rules! image {
    ($manifest:expr, $service:expr) => {
        #[global_allocator]
        static ARENA: $crate::memory::Arena = $crate::memory::Arena::new();

        fn main() -> std::process::ExitCode {
            $crate::image::start(&ARENA, $manifest, $service)
        }
    };
}

/// Everything that a service is given.
pub struct Image {
    manifest: Manifest,
    arguments: Arguments,
    bundle: Bundle,
    reloads: Option<Reloads>,
    handle: Handle,
    entropy: Rc<dyn Entropy>,
    console: Rc<dyn Console>,
    nets: Vec<Named<dyn Net>>,
    blocks: Vec<Named<dyn Block>>,
    shutdown: Shutdown,
    arena: &'static Arena,
    /// What a host in `--ntp` is.
    time_server: fn(&str) -> Option<NtpServer>,
    /// What the host is, for logs.
    kind: String,
}

/// A device that the service needs and was not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingDevice {
    /// `network` or `block`.
    what: &'static str,
    name: String,
    kind: String,
}

impl fmt::Display for MissingDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, name, kind } = self;
        write!(f, "there is no {what} device `{name}`: ")?;
        match (kind.as_str(), *what) {
            ("process", "network") => write!(f, "give the process --net={name}:tap=INTERFACE"),
            ("process", _) => write!(f, "give the process --block={name}:file=PATH"),
            _ => write!(f, "add a virtio {what} device to the virtual machine"),
        }
    }
}

impl std::error::Error for MissingDevice {}

impl Image {
    /// The name of the service.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// Spawns tasks and makes timers.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Randomness.
    #[must_use]
    pub fn entropy(&self) -> &Rc<dyn Entropy> {
        &self.entropy
    }

    /// The boot arguments.
    #[must_use]
    pub fn arguments(&self) -> &Arguments {
        &self.arguments
    }

    /// The configuration bundle; empty if none was given.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The bundles that replace the first one while the image runs. `None` when they have been taken.
    pub fn reloads(&mut self) -> Option<Reloads> {
        self.reloads.take()
    }

    /// Completes when the image is to stop.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// How much memory is in use.
    #[must_use]
    pub fn memory_use(&self) -> MemoryUse {
        self.arena.usage()
    }

    /// The allocator, for metrics.
    #[must_use]
    pub fn arena(&self) -> &'static Arena {
        self.arena
    }

    /// Reads the service's file in the bundle, `NAME.toml`; its defaults if there is none.
    ///
    /// # Errors
    /// Where the file is wrong.
    pub fn configuration<T: DeserializeOwned + Default>(&self) -> Result<T, ConfigurationError> {
        let file = format!("{}.toml", self.name());
        self.bundle.file(&file).map_or_else(|| Ok(T::default()), |content| config::parse(&file, content))
    }

    /// Takes a network device as it is, for a service that moves frames itself.
    ///
    /// # Errors
    /// When there is none of that name (any more).
    pub fn net(&mut self, name: &str) -> Result<Box<dyn Net>, MissingDevice> {
        take(&mut self.nets, name).ok_or_else(|| MissingDevice {
            what: "network",
            name: name.to_owned(),
            kind: self.kind.clone(),
        })
    }

    /// Lets the boot arguments name hosts by their names, not by their addresses alone. Called before [`Image::network`]. What
    /// resolves names is large, and in an image only if its service calls this or resolves names itself.
    pub fn resolve_names(&mut self) {
        self.time_server = |host| Some(NtpServer::host(host));
    }

    /// Starts a network stack on a device, with the addresses of the boot arguments.
    ///
    /// # Errors
    /// When there is no such device, or the boot arguments name a host and this image resolves no names.
    pub fn network(&mut self, name: &str) -> Result<Stack, Failure> {
        let configuration = self.stack_configuration()?;
        let net = self.net(name)?;
        Ok(Stack::new(&self.handle, Rc::clone(&self.entropy), net, &configuration))
    }

    /// Sends the log to the collector in `--syslog` as well, if there is one.
    ///
    /// # Errors
    /// When there is no port for it.
    pub fn start_syslog(&self, stack: &Stack) -> Result<(), Failure> {
        let Some(collector) = self.arguments.syslog else { return Ok(()) };
        let socket = stack.bind_udp(0)?;
        let hostname = self.arguments.hostname.as_deref().unwrap_or_default();
        observe::add_sink(Syslog::start(&self.handle, socket, collector, hostname, self.name()));
        Ok(())
    }

    fn time_server(&self, server: &str) -> Result<NtpServer, Failure> {
        if server == "dhcp" {
            return Ok(NtpServer::FromDhcp);
        }
        (self.time_server)(server).ok_or_else(|| {
            format!("--ntp={server}: this image resolves no names: give an address, or dhcp").into()
        })
    }

    fn stack_configuration(&self) -> Result<StackConfiguration, Failure> {
        let Arguments { ipv4, ipv6, ipv4_addresses, ipv6_addresses, .. } = &self.arguments;
        let ipv4_static = StaticAddresses {
            addresses: ipv4_addresses.clone(),
            gateways: self.arguments.ipv4_gateway.map(Into::into).into_iter().collect(),
            routes: Vec::new(),
        };
        let ipv6_static = StaticAddresses {
            addresses: ipv6_addresses.clone(),
            gateways: self.arguments.ipv6_gateway.map(Into::into).into_iter().collect(),
            routes: Vec::new(),
        };
        let ntp = self.arguments.ntp.as_deref().map(|server| self.time_server(server)).transpose()?;
        Ok(StackConfiguration {
            hostname: self.arguments.hostname.clone(),
            ipv4: match ipv4 {
                _ if !ipv4_addresses.is_empty() => Ipv4Configuration::Static(ipv4_static),
                Ipv4Argument::Dhcp => Ipv4Configuration::Dhcp,
                Ipv4Argument::None => Ipv4Configuration::Disabled,
            },
            ipv6: match ipv6 {
                Ipv6Argument::Slaac => Ipv6Configuration::Slaac {
                    identifier: InterfaceIdentifier::Eui64,
                    additional: ipv6_static,
                },
                Ipv6Argument::None if ipv6_addresses.is_empty() => Ipv6Configuration::Disabled,
                Ipv6Argument::None => Ipv6Configuration::Static(ipv6_static),
            },
            dns_servers: self.arguments.dns.clone(),
            ntp,
            ..StackConfiguration::default()
        })
    }

    /// Takes a block device as it is.
    ///
    /// # Errors
    /// When there is none of that name (any more).
    pub fn block(&mut self, name: &str) -> Result<Box<dyn Block>, MissingDevice> {
        take(&mut self.blocks, name).ok_or_else(|| MissingDevice {
            what: "block",
            name: name.to_owned(),
            kind: self.kind.clone(),
        })
    }

    /// Opens a block device as storage of this service, and formats a blank one.
    ///
    /// # Errors
    /// When there is no such device, or it is not to be used.
    pub async fn storage(&mut self, name: &str) -> Result<Storage, Failure> {
        let device = self.block(name)?;
        if !device.properties().durable_flush {
            self.print(
                "warning: this host cannot flush its disks: what is acknowledged may be lost when it fails",
            );
        }
        let options = StorageOptions {
            format: self.arguments.format,
            ..StorageOptions::new(self.name(), self.arena.usage().limit)
        };
        let storage = Storage::open(&self.handle, device, &options).await;
        storage.map_err(|error: OpenError| format!("block device `{name}`: {error}").into())
    }

    /// Checks the storage on a block device without changing it, and prints what it found: what a service with storage does
    /// when it is started with `--check-storage`. What is wrong in what the service keeps `inspect` says, in a transaction
    /// that is never committed.
    ///
    /// # Errors
    /// When there is no such device, it holds no storage, or the storage is damaged.
    pub async fn check_storage(
        &mut self,
        name: &str,
        inspect: impl FnOnce(&redb::WriteTransaction) -> Vec<String>,
    ) -> Result<(), Failure> {
        let device = self.block(name)?;
        let report = storage::check_content(&self.handle, device, inspect).await?;
        self.print(&report.to_string());
        if report.is_sound() { Ok(()) } else { Err("the storage is damaged".into()) }
    }

    /// Prints a line on the console, whatever the log level: for what the operator must see.
    pub fn print(&self, line: &str) {
        self.console.write(format!("{line}\n").as_bytes());
    }

    /// Says that the service serves: the line `ready NAME WHAT`, which scripts wait for.
    pub fn ready(&self, what: &str) {
        self.print(&format!("ready {} {what}", self.name()));
    }
}

fn take<D: ?Sized>(devices: &mut Vec<Named<D>>, name: &str) -> Option<Box<D>> {
    let index = devices.iter().position(|device| device.name == name)?;
    Some(devices.remove(index).device)
}

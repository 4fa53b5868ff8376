//! What every Skerry service stands on: one image, every host.
//!
//! A service is one static ELF. Started by Linux it is a process; loaded by a hypervisor it is a kernel. The layers,
//! from the metal up:
//!
//! | module | what it is |
//! |---|---|
//! | [`boot`], `shim` | the way into a virtual machine, and the Linux system calls that `std` makes, answered there |
//! | [`host`] | the one seam to the outside: `process` and `guest` each give the same devices |
//! | [`device`] | the traits (Net, Block, Clock, Entropy, Console) and devices made of devices: pcap, faults, links, crashing disks |
//! | [`executor`] | tasks, timers and the idle point, on one thread |
//! | [`net`] | Ethernet to TCP on smoltcp, with sockets that speak futures-io |
//! | [`storage`] | redb on a block device, crash-safe, with group commit |
//! | [`tls`], [`http`] | rustls and hyper over the platform's streams |
//! | [`config`], [`observe`], [`image`] | boot arguments and the bundle; logs, metrics, health; the image as a whole |
//!
//! Above [`host`] nothing knows which world it runs in. There is one thread; time, randomness, packets and blocks are
//! direct calls, never system calls.

pub mod boot;
pub mod config;
pub mod device;
pub mod executor;
pub mod host;
pub mod http;
pub mod image;
#[cfg(feature = "lean")]
mod lean;
pub mod memory;
pub mod net;
pub mod observe;
mod shim;
pub mod storage;
pub mod tls;

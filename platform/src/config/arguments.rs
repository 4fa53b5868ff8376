//! The command line of an image, the same in a process and in a virtual machine. Names follow Solo5's and MirageOS's
//! where they have one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use super::nearest::nearest;
use crate::host::process::NetBackend;
use crate::net::Cidr;

/// Memory of a process when `--memory` does not say, in MiB.
const DEFAULT_MEMORY_MIB: usize = 64;
/// Least memory that may be asked for, in MiB.
const MIN_MEMORY_MIB: usize = 4;

/// How a network device gets its IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv4Argument {
    /// From a DHCP server.
    Dhcp,
    /// No IPv4.
    None,
}

/// How a network device gets its IPv6 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6Argument {
    /// From router advertisements.
    Slaac,
    /// No IPv6.
    None,
}

/// What is logged: this and all that is more urgent.
pub type LogLevel = log::LevelFilter;

/// The command line, read.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// `--version`: print name and version, and end.
    pub version: bool,
    /// `--help`: print the arguments, and end.
    pub help: bool,
    /// `--check-storage`: check the block device, print what was found, and end.
    pub check_storage: bool,
    /// `--format`: use a block device although something else has used it. What was there is lost.
    pub format: bool,
    /// `--verbose`: say at start what is usually not said.
    pub verbose: bool,
    /// `--memory=MIB`: memory of the process.
    pub memory_mib: usize,
    /// `--net=NAME:tap=...` and so on: network devices of the process.
    pub nets: Vec<(String, NetBackend)>,
    /// `--mac=ADDRESS`: Ethernet addresses of the process's network devices, in their order.
    pub macs: Vec<[u8; 6]>,
    /// `--block=NAME:file=PATH`: block devices of the process.
    pub blocks: Vec<(String, PathBuf)>,
    /// `--config=FILE`: the configuration bundle of the process. A virtual machine has it as its initrd.
    pub config: Option<PathBuf>,
    /// `--ipv4=dhcp|none`, or the default.
    pub ipv4: Ipv4Argument,
    /// `--ipv4=ADDRESS/LENGTH`, each time it is given; then there is no DHCP.
    pub ipv4_addresses: Vec<Cidr>,
    /// `--ipv4-gateway=ADDRESS`.
    pub ipv4_gateway: Option<Ipv4Addr>,
    /// `--ipv6=slaac|none`, or the default.
    pub ipv6: Ipv6Argument,
    /// `--ipv6=ADDRESS/LENGTH`, each time it is given, beside what `--ipv6=slaac` finds.
    pub ipv6_addresses: Vec<Cidr>,
    /// `--ipv6-gateway=ADDRESS`.
    pub ipv6_gateway: Option<Ipv6Addr>,
    /// `--dns=ADDRESS`, each time it is given.
    pub dns: Vec<IpAddr>,
    /// `--ntp=ADDRESS|NAME|dhcp`: the server that sets the clock.
    pub ntp: Option<String>,
    /// `--hostname=NAME`.
    pub hostname: Option<String>,
    /// `--log-level=off|error|warn|info|debug|trace`.
    pub log_level: LogLevel,
    /// Words that the service declared as its own, as they came: `--hash-password` and the like.
    pub service: Vec<String>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            version: false,
            help: false,
            check_storage: false,
            format: false,
            verbose: false,
            memory_mib: DEFAULT_MEMORY_MIB,
            nets: Vec::new(),
            macs: Vec::new(),
            blocks: Vec::new(),
            config: None,
            ipv4: Ipv4Argument::Dhcp,
            ipv4_addresses: Vec::new(),
            ipv4_gateway: None,
            ipv6: Ipv6Argument::Slaac,
            ipv6_addresses: Vec::new(),
            ipv6_gateway: None,
            dns: Vec::new(),
            ntp: None,
            hostname: None,
            log_level: LogLevel::Info,
            service: Vec::new(),
        }
    }
}

/// A word of the command line that is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentError(String);

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ArgumentError {}

/// Every argument: its name, what its value looks like (empty for none), and what it does.
const TABLE: [(&str, &str, &str); 19] = [
    ("--ipv4", "ADDRESS/LENGTH|dhcp|none", "IPv4 addresses; may be repeated (default dhcp)"),
    ("--ipv4-gateway", "ADDRESS", "the way out of the network"),
    ("--ipv6", "ADDRESS/LENGTH|slaac|none", "IPv6 addresses; may be repeated (default slaac)"),
    ("--ipv6-gateway", "ADDRESS", "the way out of the network"),
    ("--dns", "ADDRESS", "a name server; may be repeated"),
    ("--ntp", "ADDRESS|NAME|dhcp", "a time server, which then sets the clock"),
    ("--hostname", "NAME", "the image's name"),
    ("--log-level", "off|error|warn|info|debug|trace", "what is logged (default info)"),
    ("--format", "", "use a disk that something else has used; what is there is lost"),
    ("--check-storage", "", "check the disk, and end"),
    ("--verbose", "", "say more at start, among it the system calls of the process"),
    ("--version", "", "print name and version, and end"),
    ("--help", "", "print this, and end"),
    ("--memory", "MIB", "process: its memory (default 64)"),
    ("--net", "NAME:tap=INTERFACE|stream=SOCKET|stream-fd=NUMBER", "process: a network device"),
    ("--mac", "XX:XX:XX:XX:XX:XX", "process: the Ethernet address of the next network device"),
    ("--block", "NAME:file=PATH", "process: a block device"),
    (
        "--config",
        "FILE",
        "process: the configuration, a tar archive or a TOML file; SIGHUP reads it again. A VM has it as initrd, or as the block device after the service's",
    ),
    ("--", "WORD...", "words for the service"),
];

/// What `--help` prints.
#[must_use]
pub fn help(name: &str, description: &str) -> String {
    use fmt::Write;
    let mut text = format!("{name}: {description}\n\n");
    for (argument, value, what) in TABLE {
        let separator = if value.is_empty() || argument == "--" { " " } else { "=" };
        let _ = writeln!(text, "  {argument}{separator}{value}\n        {what}");
    }
    text
}

impl Arguments {
    /// Reads the words after the image's name. Words after `--` go to the service.
    ///
    /// # Errors
    /// The first wrong word, and what would be right.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, ArgumentError> {
        let mut arguments = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--" {
                arguments.service.extend(words);
                break;
            }
            arguments.read(&word)?;
        }
        Ok(arguments)
    }

    fn read(&mut self, word: &str) -> Result<(), ArgumentError> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let Some((_, form, _)) = TABLE.iter().find(|(known, ..)| *known == name) else {
            let suggestion = nearest(name, TABLE.iter().map(|(known, ..)| *known));
            let hint = suggestion.map_or_else(
                || "--help lists them".to_owned(),
                |suggestion| format!("did you mean {suggestion}?"),
            );
            return Err(ArgumentError(format!("unknown argument {word}: {hint}")));
        };
        let value = match (value, form.is_empty()) {
            (None, true) => "",
            (Some(value), false) if !value.is_empty() => value,
            (_, false) => return Err(ArgumentError(format!("{word}: a value is missing: {name}={form}"))),
            (Some(_), true) => return Err(ArgumentError(format!("{word}: {name} takes no value"))),
        };
        let wrong = || ArgumentError(format!("{word}: not of the form {name}={form}"));
        match name {
            "--ipv4" => match value {
                "dhcp" => self.ipv4 = Ipv4Argument::Dhcp,
                "none" => self.ipv4 = Ipv4Argument::None,
                address => self.ipv4_addresses.push(
                    Cidr::from_str(address).ok().filter(|cidr| cidr.address().is_ipv4()).ok_or_else(|| {
                        let example = address.parse().unwrap_or(Ipv4Addr::new(192, 0, 2, 10));
                        ArgumentError(format!(
                            "{word}: an IPv4 address has its prefix length with it, as in --ipv4={example}/24"
                        ))
                    })?,
                ),
            },
            "--ipv6" => match value {
                "slaac" => self.ipv6 = Ipv6Argument::Slaac,
                "none" => self.ipv6 = Ipv6Argument::None,
                address => self.ipv6_addresses.push(
                    Cidr::from_str(address).ok().filter(|cidr| cidr.address().is_ipv6()).ok_or_else(|| {
                        let example =
                            address.parse().unwrap_or(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10));
                        ArgumentError(format!(
                            "{word}: an IPv6 address has its prefix length with it, as in --ipv6={example}/64"
                        ))
                    })?,
                ),
            },
            "--ipv4-gateway" => self.ipv4_gateway = Some(value.parse().map_err(|_| wrong())?),
            "--ipv6-gateway" => self.ipv6_gateway = Some(value.parse().map_err(|_| wrong())?),
            "--dns" => self.dns.push(value.parse().map_err(|_| wrong())?),
            "--ntp" => self.ntp = Some(value.to_owned()),
            "--hostname" => self.hostname = Some(host_name(value).ok_or_else(wrong)?),
            "--log-level" => self.log_level = value.parse().map_err(|_| wrong())?,
            "--format" => self.format = true,
            "--check-storage" => self.check_storage = true,
            "--verbose" => self.verbose = true,
            "--version" => self.version = true,
            "--help" => self.help = true,
            "--memory" => {
                self.memory_mib = value.parse().ok().filter(|mib| *mib >= MIN_MEMORY_MIB).ok_or_else(|| {
                    ArgumentError(format!("{word}: a number of MiB, at least {MIN_MEMORY_MIB}"))
                })?;
            }
            "--net" => self.nets.push(net(value).ok_or_else(wrong)?),
            "--mac" => self.macs.push(mac(value).ok_or_else(wrong)?),
            "--block" => {
                let (name, path) = value.split_once(":file=").ok_or_else(wrong)?;
                self.blocks.push((device_name(name).ok_or_else(wrong)?, PathBuf::from(path)));
            }
            _ => self.config = Some(PathBuf::from(value)),
        }
        Ok(())
    }
}

/// Devices are named as Solo5 names them: letters and digits, at most 67.
fn device_name(name: &str) -> Option<String> {
    let valid = (1..=67).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    valid.then(|| name.to_owned())
}

/// A host name (RFC 1123, 2.1): labels of letters, digits and inner hyphens.
fn host_name(name: &str) -> Option<String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (name.len() <= 253 && name.split('.').all(label)).then(|| name.to_owned())
}

fn net(value: &str) -> Option<(String, NetBackend)> {
    let (name, backend) = value.split_once(':')?;
    let (kind, target) = backend.split_once('=')?;
    let backend = match kind {
        "tap" => NetBackend::Tap(target.to_owned()),
        "stream" => NetBackend::StreamPath(PathBuf::from(target)),
        "stream-fd" => NetBackend::StreamDescriptor(target.parse().ok().filter(|number| *number > 2)?),
        _ => return None,
    };
    Some((device_name(name)?, backend))
}

fn mac(value: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = value.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next().filter(|part| part.len() == 2)?, 16).ok()?;
    }
    let unicast = mac[0] & 1 == 0;
    (parts.next().is_none() && unicast).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(words.iter().map(|word| (*word).to_owned())).map_err(|error| error.to_string())
    }

    #[test]
    fn devices_and_addresses() {
        let arguments = parse(&[
            "--net=service:tap=tap0",
            "--mac=02:00:00:00:00:0a",
            "--block=storage:file=/disk=1.img",
            "--ipv4=192.0.2.10/24",
            "--ipv6=none",
            "--hostname=cal-1.example.org",
            "--",
            "--hash-password",
        ])
        .unwrap();
        assert_eq!(arguments.nets, [("service".to_owned(), NetBackend::Tap("tap0".to_owned()))]);
        assert_eq!(arguments.macs, [[2, 0, 0, 0, 0, 10]]);
        assert_eq!(arguments.blocks, [("storage".to_owned(), PathBuf::from("/disk=1.img"))]);
        assert_eq!(arguments.ipv4_addresses.len(), 1);
        assert_eq!(arguments.ipv6, Ipv6Argument::None);
        assert_eq!(arguments.service, ["--hash-password"]);
    }

    #[test]
    fn errors_say_what_would_be_right() {
        for (word, message) in [
            ("--ipv5=1", "unknown argument --ipv5=1: did you mean --ipv4?"),
            ("--frobnicate", "unknown argument --frobnicate: --help lists them"),
            (
                "--ipv4=10.0.0.1",
                "--ipv4=10.0.0.1: an IPv4 address has its prefix length with it, as in --ipv4=10.0.0.1/24",
            ),
            (
                "--ipv4=fe80::1/64",
                "--ipv4=fe80::1/64: an IPv4 address has its prefix length with it, as in --ipv4=192.0.2.10/24",
            ),
            ("--dns", "--dns: a value is missing: --dns=ADDRESS"),
            ("--format=yes", "--format=yes: --format takes no value"),
            ("--memory=1", "--memory=1: a number of MiB, at least 4"),
            ("--mac=01:00:00:00:00:00", "--mac=01:00:00:00:00:00: not of the form --mac=XX:XX:XX:XX:XX:XX"),
            (
                "--net=service",
                "--net=service: not of the form --net=NAME:tap=INTERFACE|stream=SOCKET|stream-fd=NUMBER",
            ),
            ("--hostname=-a", "--hostname=-a: not of the form --hostname=NAME"),
        ] {
            assert_eq!(parse(&[word]).unwrap_err(), message);
        }
    }

    #[test]
    fn help_has_every_argument() {
        let text = help("caldav", "calendars");
        assert!(TABLE.iter().all(|(name, ..)| text.contains(name)));
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(words in proptest::collection::vec("(--[a-z0-9-]{0,12}(=\\PC{0,20})?|\\PC{0,20})", 0..5)) {
            let _ = Arguments::parse(words);
        }
    }
}

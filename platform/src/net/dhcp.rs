//! The DHCPv4 client: messages and `now` in, messages and the next deadline out.
//!
//! Reading: RFC 2131, RFC 2132 (options), RFC 3442 (routes), RFC 4361 (client identifiers), RFC 5227 (conflicts).

use core::time::Duration;
use std::net::Ipv4Addr;

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress, Ipv4Cidr};

use super::address::{Cidr, is_host};
use super::neighbor::Mac;
use crate::device::Instant;

/// The client's and the server's port.
pub(super) const CLIENT_PORT: u16 = 68;
pub(super) const SERVER_PORT: u16 = 67;

/// First and longest time between retransmissions. RFC 2131 (4.1) has 4 s first; images start in milliseconds, and the
/// first message is often lost while a bridge still learns.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(64);
/// Requests for an offered address before the search starts anew.
const REQUEST_ATTEMPTS: u8 = 4;
/// Shortest time between two requests to extend a lease (RFC 2131, 4.4.5).
const SHORTEST_RENEWAL: Duration = Duration::from_secs(60);
/// Shortest lease: a server that gives less would have us ask all the time.
const SHORTEST_LEASE: Duration = Duration::from_secs(60);
/// After an address that turned out to be taken, before the next search (RFC 2131, 3.1.5).
const DECLINE_DELAY: Duration = Duration::from_secs(10);
/// Servers, gateways and routes taken from an option, at most.
const MAX_LISTED: usize = 8;
/// Longest message that we accept (option 57): what fits into one Ethernet frame.
const MAX_MESSAGE: u16 = 1500;

/// Options (RFC 2132, RFC 3442).
mod option {
    pub(super) const SUBNET_MASK: u8 = 1;
    pub(super) const ROUTER: u8 = 3;
    pub(super) const DNS_SERVER: u8 = 6;
    pub(super) const HOST_NAME: u8 = 12;
    pub(super) const DOMAIN_NAME: u8 = 15;
    pub(super) const INTERFACE_MTU: u8 = 26;
    pub(super) const NTP_SERVER: u8 = 42;
    pub(super) const LEASE_TIME: u8 = 51;
    pub(super) const RENEWAL_TIME: u8 = 58;
    pub(super) const REBINDING_TIME: u8 = 59;
    pub(super) const CLASSLESS_ROUTES: u8 = 121;
}

const PARAMETERS: [u8; 10] = [
    option::SUBNET_MASK,
    option::CLASSLESS_ROUTES,
    option::ROUTER,
    option::DNS_SERVER,
    option::DOMAIN_NAME,
    option::INTERFACE_MTU,
    option::NTP_SERVER,
    option::LEASE_TIME,
    option::RENEWAL_TIME,
    option::REBINDING_TIME,
];

/// What a server has given us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Our address and its network.
    pub address: Cidr,
    /// Who gave it.
    pub server: Ipv4Addr,
    /// Default gateways, the best first.
    pub gateways: Vec<Ipv4Addr>,
    /// Further routes; a gateway of 0.0.0.0 means that the network is on the link (RFC 3442).
    pub routes: Vec<(Cidr, Ipv4Addr)>,
    /// Name servers.
    pub name_servers: Vec<Ipv4Addr>,
    /// Time servers.
    pub time_servers: Vec<Ipv4Addr>,
    /// The MTU of the link.
    pub mtu: Option<u16>,
    /// The name that the network gives us.
    pub hostname: Option<String>,
    /// When it is to be extended (T1), with any server (T2), and given up.
    pub renew_at: Instant,
    /// T2.
    pub rebind_at: Instant,
    /// The end.
    pub expires_at: Instant,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A message to everybody, from no address.
    Broadcast(Vec<u8>),
    /// A message from our address to the server; everybody if `None`.
    FromLease(Vec<u8>, Option<Ipv4Addr>),
    /// There is a new lease, or an old one with new contents.
    Configure(Lease),
    /// The lease is gone.
    Deconfigure,
}

#[derive(Clone, Debug)]
enum State {
    Init,
    Selecting,
    Requesting {
        offered: Ipv4Addr,
        server: Ipv4Addr,
        attempts: u8,
    },
    Bound(Lease),
    /// T1 has come; T2 when `rebinding`.
    Extending {
        lease: Lease,
        rebinding: bool,
    },
}

/// A DHCP client.
pub(super) struct DhcpClient {
    mac: Mac,
    hostname: Option<String>,
    state: State,
    transaction: u32,
    /// When the search began.
    since: Instant,
    interval: Duration,
    deadline: Instant,
    pending: Vec<Action>,
}

impl DhcpClient {
    pub(super) fn new(now: Instant, mac: Mac, hostname: Option<String>) -> Self {
        Self {
            mac,
            hostname: hostname.filter(|name| (1..=255).contains(&name.len())),
            state: State::Init,
            transaction: 0,
            since: now,
            interval: FIRST_INTERVAL,
            deadline: now,
            pending: Vec::new(),
        }
    }

    /// The lease, while there is one.
    pub(super) fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound(lease) | State::Extending { lease, .. } => Some(lease),
            State::Init | State::Selecting | State::Requesting { .. } => None,
        }
    }

    /// What is to be done now; to be called again until there is nothing. `random` is new with each call.
    pub(super) fn poll(&mut self, now: Instant, random: u32) -> Option<Action> {
        if !self.pending.is_empty() {
            return Some(self.pending.remove(0));
        }
        if now < self.deadline {
            return None;
        }
        match self.state.clone() {
            State::Init => {
                self.transaction = random;
                self.since = now;
                self.interval = FIRST_INTERVAL;
                self.state = State::Selecting;
                Some(self.discover(now, random))
            }
            State::Selecting => Some(self.discover(now, random)),
            State::Requesting { attempts: REQUEST_ATTEMPTS.., .. } => {
                self.restart(now);
                None
            }
            State::Requesting { offered, server, attempts } => {
                self.state = State::Requesting { offered, server, attempts: attempts + 1 };
                self.back_off(now, random);
                let message = self.message(now, DhcpMessageType::Request);
                let repr = DhcpRepr {
                    requested_ip: Some(offered),
                    server_identifier: Some(server),
                    ..self.repr(&message)
                };
                Some(Action::Broadcast(emit(&repr)))
            }
            State::Bound(lease) => {
                self.transaction = random;
                self.since = now;
                self.state = State::Extending { lease, rebinding: false };
                self.poll(now, random)
            }
            State::Extending { lease, .. } if now >= lease.expires_at => {
                self.restart(now);
                Some(Action::Deconfigure)
            }
            State::Extending { lease, rebinding } => Some(self.extend(now, lease, rebinding)),
        }
    }

    fn discover(&mut self, now: Instant, random: u32) -> Action {
        self.back_off(now, random);
        let message = self.message(now, DhcpMessageType::Discover);
        Action::Broadcast(emit(&self.repr(&message)))
    }

    /// RFC 2131, 4.4.5: asks again after half of what is left.
    fn extend(&mut self, now: Instant, lease: Lease, rebinding: bool) -> Action {
        let rebinding = rebinding || now >= lease.rebind_at;
        let until = if rebinding { lease.expires_at } else { lease.rebind_at };
        let half = SHORTEST_RENEWAL.max(until.since(now) / 2);
        self.deadline = until.min(now + half);
        let (address, server) = (lease.address, lease.server);
        self.state = State::Extending { lease, rebinding };
        let message = self.message(now, DhcpMessageType::Request);
        let repr = DhcpRepr { client_ip: ipv4(address), ..self.repr(&message) };
        Action::FromLease(emit(&repr), (!rebinding).then_some(server))
    }

    /// Takes a message from a server.
    pub(super) fn receive(&mut self, now: Instant, payload: &[u8]) {
        let Ok(packet) = DhcpPacket::new_checked(payload) else { return };
        let Ok(repr) = DhcpRepr::parse(&packet) else { return };
        if repr.transaction_id != self.transaction || repr.client_hardware_address.0 != self.mac {
            return;
        }
        match (&self.state, repr.message_type) {
            (State::Selecting, DhcpMessageType::Offer) => {
                let Some(server) = repr.server_identifier.filter(|server| is_host((*server).into())) else {
                    return;
                };
                if read_lease(now, &packet, &repr, server).is_some() {
                    self.interval = FIRST_INTERVAL;
                    self.deadline = now;
                    self.state = State::Requesting { offered: repr.your_ip, server, attempts: 0 };
                }
            }
            (State::Requesting { server, .. }, DhcpMessageType::Ack) => {
                let server = *server;
                if repr.server_identifier.is_none_or(|named| named == server)
                    && let Some(lease) = read_lease(now, &packet, &repr, server)
                {
                    self.bind(lease);
                }
            }
            (State::Extending { lease, .. }, DhcpMessageType::Ack) => {
                let server = repr.server_identifier.unwrap_or(lease.server);
                if let Some(lease) = read_lease(now, &packet, &repr, server) {
                    self.bind(lease);
                }
            }
            (State::Requesting { server, .. }, DhcpMessageType::Nak)
                if repr.server_identifier == Some(*server) =>
            {
                self.restart(now);
            }
            (State::Extending { .. }, DhcpMessageType::Nak) => {
                self.restart(now);
                self.pending.push(Action::Deconfigure);
            }
            _ => {}
        }
    }

    /// Our address turned out to be somebody else's (RFC 2131, 4.4.4): it is given up, and another asked for later.
    pub(super) fn decline(&mut self, now: Instant) {
        let Some(lease) = self.lease().cloned() else { return };
        let message = self.message(now, DhcpMessageType::Decline);
        let repr = DhcpRepr {
            requested_ip: Some(ipv4(lease.address)),
            server_identifier: Some(lease.server),
            parameter_request_list: None,
            max_size: None,
            ..self.repr(&message)
        };
        let decline = emit(&repr);
        self.restart(now + DECLINE_DELAY);
        self.pending.extend([Action::Deconfigure, Action::Broadcast(decline)]);
    }

    /// When [`DhcpClient::poll`] next has something to do.
    pub(super) fn next_deadline(&self) -> Instant {
        if self.pending.is_empty() { self.deadline } else { Instant::START }
    }

    fn bind(&mut self, lease: Lease) {
        self.deadline = lease.renew_at;
        self.pending.push(Action::Configure(lease.clone()));
        self.state = State::Bound(lease);
    }

    fn restart(&mut self, at: Instant) {
        self.state = State::Init;
        self.deadline = at;
    }

    /// RFC 2131, 4.1: doubled each time, by chance up to a second more or less; here half of the interval at most.
    fn back_off(&mut self, now: Instant, random: u32) {
        let spread = self.interval.min(Duration::from_secs(2));
        self.deadline = now + (self.interval - spread / 2) + spread * (random >> 16) / 0x1_0000;
        self.interval = LONGEST_INTERVAL.min(self.interval * 2);
    }

    fn message(&self, now: Instant, kind: DhcpMessageType) -> Message<'_> {
        let options =
            self.hostname.as_ref().map(|name| DhcpOption { kind: option::HOST_NAME, data: name.as_bytes() });
        Message { kind, seconds: now.since(self.since), options: options.into_iter().collect() }
    }

    fn repr<'a>(&self, message: &'a Message<'a>) -> DhcpRepr<'a> {
        let unspecified = Ipv4Addr::UNSPECIFIED;
        DhcpRepr {
            message_type: message.kind,
            transaction_id: self.transaction,
            secs: u16::try_from(message.seconds.as_secs()).unwrap_or(u16::MAX),
            client_hardware_address: EthernetAddress(self.mac),
            client_ip: unspecified,
            your_ip: unspecified,
            server_ip: unspecified,
            router: None,
            subnet_mask: None,
            relay_agent_ip: unspecified,
            broadcast: false,
            requested_ip: None,
            client_identifier: Some(EthernetAddress(self.mac)),
            server_identifier: None,
            parameter_request_list: Some(&PARAMETERS),
            dns_servers: None,
            max_size: Some(MAX_MESSAGE),
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &message.options,
        }
    }
}

struct Message<'a> {
    kind: DhcpMessageType,
    seconds: Duration,
    options: Vec<DhcpOption<'a>>,
}

fn ipv4(cidr: Cidr) -> Ipv4Addr {
    match cidr.address() {
        std::net::IpAddr::V4(address) => address,
        std::net::IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn emit(repr: &DhcpRepr<'_>) -> Vec<u8> {
    // Relays may drop what is shorter than a BOOTP message (RFC 1542, 2.1).
    let mut bytes = vec![0; repr.buffer_len().max(300)];
    match repr.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

/// Reads what a server offers; `None` if it cannot be used.
fn read_lease(
    now: Instant,
    packet: &DhcpPacket<&[u8]>,
    repr: &DhcpRepr<'_>,
    server: Ipv4Addr,
) -> Option<Lease> {
    let mask = repr.subnet_mask.unwrap_or(Ipv4Addr::new(255, 255, 255, 0));
    let network = Ipv4Cidr::from_netmask(repr.your_ip, mask).ok()?;
    let address = Cidr::new(repr.your_ip.into(), network.prefix_len())?;
    if !is_host(repr.your_ip.into()) || address.broadcast() == Some(repr.your_ip) {
        return None;
    }
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    let duration = seconds(repr.lease_duration?).max(SHORTEST_LEASE);
    // RFC 2131, 4.4.5: half and seven eighths, unless the server knows better.
    let rebind = repr.rebind_duration.map(seconds).filter(|rebind| *rebind < duration);
    let rebind = rebind.unwrap_or(duration / 8 * 7).max(SHORTEST_LEASE / 4 * 3);
    let renew = repr.renew_duration.map(seconds).filter(|renew| *renew < rebind);
    let renew = renew.unwrap_or(duration / 2).max(SHORTEST_LEASE / 2).min(rebind);
    let data = |kind| packet.options().find(|option| option.kind == kind).map(|option| option.data);
    let routes: Vec<_> = data(option::CLASSLESS_ROUTES).map(classless_routes).unwrap_or_default();
    let (defaults, others): (Vec<_>, Vec<_>) =
        routes.into_iter().partition(|(destination, _)| destination.prefix_length() == 0);
    let gateways = match data(option::CLASSLESS_ROUTES) {
        // RFC 3442: a client that takes this option ignores the other.
        Some(_) => defaults.into_iter().map(|(_, gateway)| gateway).collect(),
        None => addresses(data(option::ROUTER)),
    };
    Some(Lease {
        address,
        server,
        gateways,
        routes: others,
        name_servers: addresses(data(option::DNS_SERVER)),
        time_servers: addresses(data(option::NTP_SERVER)),
        mtu: data(option::INTERFACE_MTU)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u16::from_be_bytes)
            .filter(|mtu| *mtu >= 576),
        hostname: data(option::HOST_NAME)
            .and_then(|name| core::str::from_utf8(name).ok())
            .map(|name| name.trim_end_matches('\0').to_owned()),
        renew_at: now + renew,
        rebind_at: now + rebind,
        expires_at: now + duration,
    })
}

fn addresses(data: Option<&[u8]>) -> Vec<Ipv4Addr> {
    data.unwrap_or_default()
        .chunks_exact(4)
        .filter_map(|octets| <[u8; 4]>::try_from(octets).ok())
        .map(Ipv4Addr::from_octets)
        .filter(|address| is_host((*address).into()))
        .take(MAX_LISTED)
        .collect()
}

/// RFC 3442: prefix length, as many octets of the prefix as matter, gateway.
fn classless_routes(mut data: &[u8]) -> Vec<(Cidr, Ipv4Addr)> {
    let mut routes = Vec::new();
    while let Some((length, rest)) = data.split_first()
        && routes.len() < MAX_LISTED
    {
        let significant = usize::from(length.div_ceil(8));
        let Some((prefix, after)) = rest.split_at_checked(significant) else { break };
        let Some((gateway, after)) = after.split_first_chunk::<4>() else { break };
        let mut octets = [0; 4];
        if significant > octets.len() {
            break;
        }
        octets[..significant].copy_from_slice(prefix);
        if let Some(destination) = Cidr::new(Ipv4Addr::from_octets(octets).into(), *length) {
            routes.push((destination, Ipv4Addr::from_octets(*gateway)));
        }
        data = after;
    }
    routes
}

//! UDP: many ports, each with a bounded queue.
//!
//! Reading: RFC 768, RFC 1122 (4.1), RFC 8085 (usage), RFC 6056 (choice of ports), RFC 8200 (8.1, checksums).

use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use smoltcp::wire::UdpPacket;

use super::stack::Shared;
use super::{IpError, IpErrorKind, IpPacket};
use crate::device::{Entropy, Frame};

/// IP's number of UDP.
pub(super) const PROTOCOL: u8 = 17;
/// Length of a UDP header.
pub(super) const HEADER_LENGTH: usize = 8;
/// Where the checksum is in it.
pub(super) const CHECKSUM_OFFSET: usize = 6;
/// Largest payload: that of IPv4, the smaller.
const MAX_PAYLOAD: usize = 65_507;
/// Ports that are chosen for sockets without one (RFC 6056, 3.2, asks for as many as possible; these leave out what
/// services are configured to).
const EPHEMERAL_FIRST: u16 = 20_000;
/// Choices at random before the ports count as used up.
const EPHEMERAL_ATTEMPTS: usize = 64;

/// Where a socket listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// A port on every address of both families.
    Port(u16),
    /// A port on one address. `0.0.0.0` stands for every address of IPv4, `::` for every address of both families.
    Address(SocketAddr),
}

impl From<u16> for Local {
    fn from(port: u16) -> Self {
        Self::Port(port)
    }
}

impl From<SocketAddr> for Local {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl Local {
    /// The port; 0 asks for any.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Port(port) => port,
            Self::Address(address) => address.port(),
        }
    }

    /// The address and port, with `::` for both families.
    pub(super) fn address(self) -> SocketAddr {
        match self {
            Self::Port(port) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
            Self::Address(address) => address,
        }
    }

    fn with_port(self, port: u16) -> Self {
        match self {
            Self::Port(_) => Self::Port(port),
            Self::Address(address) => Self::Address(SocketAddr::new(address.ip(), port)),
        }
    }

    /// Whether packets to `destination` (its port aside) are meant, and how precisely.
    fn matches(self, destination: IpAddr) -> Option<u8> {
        match self {
            Self::Port(_) => Some(0),
            Self::Address(address) if address.ip().is_unspecified() => {
                (address.is_ipv6() || destination.is_ipv4()).then_some(u8::from(address.is_ipv4()))
            }
            Self::Address(address) => (address.ip() == destination).then_some(2),
        }
    }
}

/// A received datagram, in the buffer that it came in.
#[derive(Debug)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddr,
    /// The address of ours that it was sent to: the one to answer from.
    pub destination: IpAddr,
    frame: Frame,
}

impl Datagram {
    /// What was sent.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.frame.bytes()
    }
}

/// What a socket shares with the table.
pub(super) struct Endpoint {
    local: Local,
    peer: Cell<Option<SocketAddr>>,
    inbox: RefCell<Inbox>,
    /// Bytes of buffers that the inbox may hold.
    limit: usize,
}

#[derive(Default)]
struct Inbox {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
    error: Option<io::ErrorKind>,
    waker: Option<Waker>,
}

impl Endpoint {
    fn deliver(&self, datagram: Datagram) -> bool {
        let held = datagram.frame.buffer().len();
        let mut inbox = self.inbox.borrow_mut();
        if inbox.bytes + held > self.limit {
            return false;
        }
        inbox.bytes += held;
        inbox.datagrams.push_back(datagram);
        inbox.waker.take().into_iter().for_each(Waker::wake);
        true
    }
}

/// The sockets of a stack by port.
#[derive(Default)]
pub(super) struct UdpTable {
    ports: BTreeMap<u16, Vec<Rc<Endpoint>>>,
}

/// What became of a datagram.
pub(super) enum Delivery {
    Done,
    QueueFull,
    /// Nobody listens.
    NoPort(IpPacket),
    Malformed,
}

impl UdpTable {
    /// Opens a port; port 0 chooses one.
    pub(super) fn bind(
        &mut self,
        local: Local,
        limit: usize,
        entropy: &dyn Entropy,
    ) -> io::Result<Rc<Endpoint>> {
        let local = match local.port() {
            0 => local.with_port(self.free_port(entropy)?),
            _ => local,
        };
        let sockets = self.ports.entry(local.port()).or_default();
        if sockets.iter().any(|socket| socket.local.address() == local.address()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let endpoint = Rc::new(Endpoint { local, peer: Cell::default(), inbox: RefCell::default(), limit });
        sockets.push(Rc::clone(&endpoint));
        Ok(endpoint)
    }

    fn free_port(&self, entropy: &dyn Entropy) -> io::Result<u16> {
        let count = u64::from(u16::MAX - EPHEMERAL_FIRST) + 1;
        (0..EPHEMERAL_ATTEMPTS)
            .filter_map(|_| u16::try_from(u64::from(EPHEMERAL_FIRST) + entropy.next_u64() % count).ok())
            .find(|port| !self.ports.contains_key(port))
            .ok_or_else(|| io::ErrorKind::AddrInUse.into())
    }

    fn close(&mut self, endpoint: &Rc<Endpoint>) {
        let port = endpoint.local.port();
        if let Some(sockets) = self.ports.get_mut(&port) {
            sockets.retain(|socket| !Rc::ptr_eq(socket, endpoint));
            if sockets.is_empty() {
                self.ports.remove(&port);
            }
        }
    }

    fn find(&self, local: IpAddr, port: u16, peer: SocketAddr) -> Option<&Rc<Endpoint>> {
        self.ports
            .get(&port)?
            .iter()
            .filter_map(|socket| {
                let connected = match socket.peer.get() {
                    None => false,
                    Some(expected) if expected == peer => true,
                    Some(_) => return None,
                };
                Some((socket, connected, socket.local.matches(local)?))
            })
            .max_by_key(|(_, connected, precision)| (*connected, *precision))
            .map(|(socket, ..)| socket)
    }

    /// Hands a datagram whose checksum is right to its socket.
    pub(super) fn receive(&self, mut packet: IpPacket) -> Delivery {
        let transport = &packet.frame.bytes()[packet.header_length..];
        let Ok(header) = UdpPacket::new_checked(transport) else { return Delivery::Malformed };
        let source = SocketAddr::new(packet.source, header.src_port());
        let length = usize::from(header.len());
        let Some(socket) = self.find(packet.destination, header.dst_port(), source) else {
            return Delivery::NoPort(packet);
        };
        packet.frame.trim_front(packet.header_length + HEADER_LENGTH);
        packet.frame.truncate(length - HEADER_LENGTH);
        let datagram = Datagram { source, destination: packet.destination, frame: packet.frame };
        if socket.deliver(datagram) { Delivery::Done } else { Delivery::QueueFull }
    }

    /// Tells the socket that sent a datagram of its fate. Returns whether there is one that may have sent it.
    pub(super) fn error(&self, error: &IpError<'_>) -> bool {
        let port = u16::from_be_bytes([error.transport[0], error.transport[1]]);
        let peer_port = u16::from_be_bytes([error.transport[2], error.transport[3]]);
        let peer = SocketAddr::new(error.destination, peer_port);
        let Some(socket) = self.find(error.source, port, peer) else { return false };
        // An unconnected socket talks to many; one of them must not make the others fail (RFC 1122, 4.1.3.3, as BSD has it).
        if socket.peer.get() == Some(peer) {
            let kind = match error.kind {
                IpErrorKind::PortUnreachable => io::ErrorKind::ConnectionRefused,
                IpErrorKind::Unreachable => io::ErrorKind::HostUnreachable,
                IpErrorKind::TimeExceeded | IpErrorKind::TooBig { .. } => return true,
            };
            let mut inbox = socket.inbox.borrow_mut();
            inbox.error = Some(kind);
            inbox.waker.take().into_iter().for_each(Waker::wake);
        }
        true
    }
}

/// Writes header and payload, with a checksum of zero.
pub(super) fn emit(bytes: &mut [u8], source: u16, destination: u16, payload: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(0);
    let (header, rest) = bytes.split_at_mut(HEADER_LENGTH);
    let mut header = UdpPacket::new_unchecked(header);
    header.set_src_port(source);
    header.set_dst_port(destination);
    header.set_len(length);
    header.set_checksum(0);
    rest.copy_from_slice(payload);
}

/// A UDP socket. Dropped, it is closed.
///
/// One task receives and any number send: of several tasks that wait to receive, the last is woken.
pub struct UdpSocket {
    shared: Rc<Shared>,
    endpoint: Rc<Endpoint>,
}

impl UdpSocket {
    pub(super) fn bind(shared: &Rc<Shared>, local: Local, limit: usize) -> io::Result<Self> {
        let mut core = shared.core.borrow_mut();
        let entropy = Rc::clone(core.egress.entropy());
        let endpoint = core.udp.bind(local, limit, &*entropy)?;
        drop(core);
        Ok(Self { shared: Rc::clone(shared), endpoint })
    }

    /// Where the socket listens, with its port.
    #[must_use]
    pub fn local(&self) -> Local {
        self.endpoint.local
    }

    /// From now on takes datagrams from `peer` only, and reports its ICMP errors.
    pub fn connect(&self, peer: SocketAddr) {
        self.endpoint.peer.set(Some(peer));
    }

    /// Takes the next datagram.
    ///
    /// # Errors
    /// Those that ICMP reported, on a connected socket: `ConnectionRefused`, `HostUnreachable`.
    pub fn poll_receive(&self, context: &mut Context<'_>) -> Poll<io::Result<Datagram>> {
        let mut inbox = self.endpoint.inbox.borrow_mut();
        if inbox.datagrams.is_empty() && inbox.error.is_none() {
            inbox.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        core::task::ready!(self.shared.handle.poll_budget(context));
        if let Some(kind) = inbox.error.take() {
            return Poll::Ready(Err(kind.into()));
        }
        let Some(datagram) = inbox.datagrams.pop_front() else { return Poll::Pending };
        inbox.bytes -= datagram.frame.buffer().len();
        Poll::Ready(Ok(datagram))
    }

    /// Copies the next datagram into `buffer`, cut to its length, and returns how much was copied and who sent it.
    ///
    /// # Errors
    /// Those of [`UdpSocket::poll_receive`].
    pub fn poll_recv_from(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.poll_receive(context).map_ok(|datagram| {
            let length = datagram.payload().len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram.payload()[..length]);
            (length, datagram.source)
        })
    }

    /// Sends `payload` to `to`, from the address that the routes choose, or from `from`, which must be ours.
    ///
    /// Waits only for room in the transmit queue; a neighbour that is not known yet is asked for meanwhile.
    ///
    /// # Errors
    /// `InvalidInput` for more than 65,507 bytes, `NetworkUnreachable` without a route, `AddrNotAvailable` if `from` is
    /// not ours or the socket is bound to another.
    pub fn poll_send(
        &self,
        context: &mut Context<'_>,
        payload: &[u8],
        to: SocketAddr,
        from: Option<IpAddr>,
    ) -> Poll<io::Result<usize>> {
        if payload.len() > MAX_PAYLOAD {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        }
        let from = from.or(match self.endpoint.local {
            Local::Address(local) if !local.ip().is_unspecified() => Some(local.ip()),
            Local::Address(_) | Local::Port(_) => None,
        });
        core::task::ready!(self.shared.handle.poll_budget(context));
        let mut core = self.shared.core.borrow_mut();
        if !core.egress.has_room() {
            core.wait_for_room(context.waker());
            return Poll::Pending;
        }
        let sent = core.send_udp(self.shared.handle.now(), from, self.endpoint.local.port(), to, payload);
        drop(core);
        self.shared.wake_driver();
        Poll::Ready(sent.map(|()| payload.len()))
    }

    /// Sends `payload` to `to`; see [`UdpSocket::poll_send`].
    ///
    /// # Errors
    /// Those of [`UdpSocket::poll_send`].
    pub fn poll_send_to(
        &self,
        context: &mut Context<'_>,
        payload: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, payload, to, None)
    }

    /// Takes the next datagram.
    ///
    /// # Errors
    /// Those of [`UdpSocket::poll_receive`].
    pub async fn receive(&self) -> io::Result<Datagram> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    /// Copies the next datagram into `buffer`.
    ///
    /// # Errors
    /// Those of [`UdpSocket::poll_receive`].
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|context| self.poll_recv_from(context, buffer)).await
    }

    /// Sends `payload` to `to`.
    ///
    /// # Errors
    /// Those of [`UdpSocket::poll_send`].
    pub async fn send_to(&self, payload: &[u8], to: SocketAddr) -> io::Result<usize> {
        poll_fn(|context| self.poll_send(context, payload, to, None)).await
    }

    /// Answers `datagram`: from the address that it was sent to, to where it came from.
    ///
    /// # Errors
    /// Those of [`UdpSocket::poll_send`].
    pub async fn reply(&self, datagram: &Datagram, payload: &[u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_send(context, payload, datagram.source, Some(datagram.destination))).await
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.shared.core.borrow_mut().udp.close(&self.endpoint);
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UdpSocket {{ local: {:?}, peer: {:?} }}", self.endpoint.local, self.endpoint.peer.get())
    }
}

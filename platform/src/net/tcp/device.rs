//! The device under a connection's smoltcp socket: one packet in at most, and packets out straight into frames.

use core::net::SocketAddr;
use core::num::NonZeroUsize;

use smoltcp::iface::{Config, Interface};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant as SmoltcpInstant;

use super::demux::FlowKey;
use super::segment::{NO_LINK, OPTION_MSS, OPTION_SCALE, Outgoing, PROTOCOL, seal};
use super::sequence::Sequence;
use crate::device::{Instant, OffloadSupport, Segmentation, SegmentationKind};
use crate::net::{IpOutput, IpPacket};

/// What went out on a connection, and how our window is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    pub(super) key: FlowKey,
    /// The path's MTU, as far as known.
    pub(super) mtu: u16,
    /// The largest segment that the peer takes, as its SYN says.
    pub(super) peer_mss: u16,
    /// The highest sequence number sent, plus one: SND.NXT, also while smoltcp goes back to send again.
    pub(super) send_next: Sequence,
    /// The last acknowledgment number sent, once one was.
    pub(super) acknowledged: Option<Sequence>,
    /// The end of the largest window that was announced.
    pub(super) window_end: Sequence,
    /// The window scale that our SYN announced. It is for life, whereas the socket with its buffers may be replaced.
    pub(super) announced_scale: u8,
    /// The window scale that the present socket computes with.
    pub(super) socket_scale: u8,
    /// Whether both sides scale.
    pub(super) scaling: bool,
    /// Segments that were sent again since last asked.
    pub(super) retransmitted: u64,
}

impl Wire {
    /// The most data that a segment to this MTU can carry: what our SYN announces (RFC 6691).
    fn local_mss(&self) -> u16 {
        let headers = if self.key.local.is_ipv4() { 40 } else { 60 };
        self.mtu.saturating_sub(headers)
    }

    /// The most data that one segment on the wire may carry.
    fn segment_size(&self) -> u16 {
        self.local_mss().min(self.peer_mss).max(MINIMUM_MSS)
    }

    /// Corrects and notes a segment that is about to go out.
    fn pass(&mut self, segment: &mut Outgoing<'_>) {
        let mut window = usize::from(segment.window());
        if segment.is_syn() {
            segment.set_option_of_syn(OPTION_SCALE, &[self.announced_scale]);
            segment.set_option_of_syn(OPTION_MSS, &self.local_mss().to_be_bytes());
        } else if self.scaling {
            window <<= self.socket_scale;
            let field = (window >> self.announced_scale).min(usize::from(u16::MAX)) as u16;
            segment.set_window(field);
            window = usize::from(field) << self.announced_scale;
        }
        if let Some(number) = segment.acknowledgment()
            && !segment.is_reset()
        {
            self.window_end = match self.acknowledged {
                Some(_) => self.window_end.max(number + window),
                None => number + window,
            };
            self.acknowledged = Some(number);
        }
        if segment.end() == segment.sequence() && segment.acknowledgment().is_some() {
            // While smoltcp sends old data again it numbers its bare ACKs (and its RST) by that. The peer is past it and
            // drops them, so that two ends that both repeat never hear each other. It is SND.NXT (RFC 9293 3.10.7.4).
            segment.set_sequence(segment.sequence().max(self.send_next));
        }
        let end = segment.end();
        let occupies = end != segment.sequence();
        if end > self.send_next {
            self.send_next = end;
        } else if occupies && segment.sequence() + 1 < self.send_next {
            // A keepalive probe repeats the one byte before SND.NXT and is not counted.
            self.retransmitted += 1;
        }
    }
}

/// The least segment size that smoltcp believes of a peer.
const MINIMUM_MSS: u16 = 48;

/// The device. Made for one call of smoltcp.
pub(super) struct FlowDevice<'a> {
    input: Option<&'a [u8]>,
    sink: Sink<'a>,
    mtu: u16,
    support: OffloadSupport,
    budget: usize,
}

enum Sink<'a> {
    Network {
        out: &'a mut dyn IpOutput,
        wire: &'a mut Wire,
    },
    /// Nothing goes out: a handshake is being staged. Keeps the sequence number of the last segment.
    Stage(Option<Sequence>),
}

impl<'a> FlowDevice<'a> {
    /// A device that sends at most `budget` packets to the network.
    pub(super) fn network(out: &'a mut dyn IpOutput, wire: &'a mut Wire, budget: usize) -> Self {
        let support = out.offload();
        let mtu = interface_mtu(wire, support);
        Self { input: None, sink: Sink::Network { out, wire }, mtu, support, budget }
    }

    /// A device that sends nothing.
    pub(super) fn stage(mtu: u16, support: OffloadSupport) -> Self {
        Self { input: None, sink: Sink::Stage(None), mtu, support, budget: usize::MAX }
    }

    /// The device with a packet to receive.
    pub(super) fn with_input(mut self, packet: &'a [u8]) -> Self {
        self.input = Some(packet);
        self
    }

    /// Gives the staged device another packet to receive.
    pub(super) fn set_input(&mut self, packet: &'a [u8]) {
        self.input = Some(packet);
    }

    /// The sequence number of the last segment that went to the stage.
    pub(super) fn staged(&self) -> Option<Sequence> {
        match self.sink {
            Sink::Stage(sequence) => sequence,
            Sink::Network { .. } => None,
        }
    }

    /// How many more packets it would send.
    pub(super) fn budget(&self) -> usize {
        self.budget
    }
}

impl phy::Device for FlowDevice<'_> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Transmit<'t>
    where
        Self: 't;

    fn receive(&mut self, _: SmoltcpInstant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let packet = self.input.take()?;
        Some((Received(packet), self.token()))
    }

    fn transmit(&mut self, _: SmoltcpInstant) -> Option<Self::TxToken<'_>> {
        self.budget = self.budget.checked_sub(1)?;
        Some(self.token())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu, self.support)
    }
}

impl FlowDevice<'_> {
    fn token(&mut self) -> Transmit<'_> {
        match &mut self.sink {
            Sink::Network { out, wire } => {
                Transmit { target: Target::Network(&mut **out, wire), support: self.support }
            }
            Sink::Stage(sequence) => Transmit { target: Target::Stage(sequence), support: self.support },
        }
    }
}

/// The MTU that smoltcp computes with.
///
/// Where the device cuts large segments, smoltcp is told of the largest packet there is, and the size of the pieces is
/// set here: smoltcp 0.14 drops IPv6 packets larger than its MTU even if they are to be cut (`dispatch_ip`), and a change
/// of the path's MTU then acts on what is already in flight.
fn interface_mtu(wire: &Wire, support: OffloadSupport) -> u16 {
    if segments(support, wire.key.local.is_ipv4()) { u16::MAX } else { wire.mtu }
}

/// Whether the device cuts large segments of this version of IP.
fn segments(support: OffloadSupport, version4: bool) -> bool {
    support.transmit_checksum && if version4 { support.transmit_tcp4 } else { support.transmit_tcp6 }
}

/// What smoltcp may count on. The checksums of received segments are verified before the socket sees them, those of
/// segments to send are set afterwards, when the window has its last value.
pub(super) fn capabilities(mtu: u16, support: OffloadSupport) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = usize::from(mtu);
    capabilities.checksum.tcp = phy::Checksum::None;
    capabilities.checksum.ipv4 = phy::Checksum::Tx;
    let largest = NonZeroUsize::new(usize::from(u16::MAX));
    capabilities.segmentation.tcpv4 = largest.filter(|_| support.transmit_checksum && support.transmit_tcp4);
    capabilities.segmentation.tcpv6 = largest.filter(|_| support.transmit_checksum && support.transmit_tcp6);
    capabilities
}

/// An interface whose generator is in a state of our choice.
pub(super) fn interface(device: &mut FlowDevice<'_>, seed: u64, now: Instant) -> Interface {
    let mut config = Config::new(NO_LINK);
    config.random_seed = seed;
    let mut interface = Interface::new(config, device, smoltcp_time(now));
    // Whether an address is ours was decided before a packet came here.
    interface.set_any_ip(true);
    interface
}

/// The interfaces that sockets transmit through: one for each MTU, as smoltcp takes the MTU from there.
#[derive(Default)]
pub(super) struct Interfaces {
    support: OffloadSupport,
    by_mtu: Vec<(u16, Interface)>,
}

/// More MTUs than paths have at one time; past it they are made anew.
const MOST_INTERFACES: usize = 32;

impl Interfaces {
    pub(super) fn get(&mut self, device: &mut FlowDevice<'_>, now: Instant) -> &mut Interface {
        if self.support != device.support || self.by_mtu.len() > MOST_INTERFACES {
            self.by_mtu.clear();
            self.support = device.support;
        }
        let found = self.by_mtu.iter().position(|(mtu, _)| *mtu == device.mtu);
        let index = found.unwrap_or_else(|| {
            self.by_mtu.push((device.mtu, interface(device, 0, now)));
            self.by_mtu.len() - 1
        });
        &mut self.by_mtu[index].1
    }
}

pub(super) struct Received<'a>(&'a [u8]);

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(super) struct Transmit<'a> {
    target: Target<'a>,
    support: OffloadSupport,
}

enum Target<'a> {
    Network(&'a mut dyn IpOutput, &'a mut Wire),
    Stage(&'a mut Option<Sequence>),
}

impl phy::TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        match self.target {
            Target::Stage(sequence) => {
                let mut packet = vec![0; length];
                let result = f(&mut packet);
                let header = ip_header_length(&packet);
                *sequence = packet.get_mut(header..).map(|bytes| Outgoing { bytes }.sequence());
                result
            }
            Target::Network(out, wire) => {
                let mut frame = out.pool().frame(length);
                let result = f(frame.append(length));
                let header_length = ip_header_length(frame.bytes());
                let mut segment = Outgoing { bytes: &mut frame.bytes_mut()[header_length..] };
                wire.pass(&mut segment);
                let headers = header_length + segment.header_length();
                let (source, destination) = (wire.key.local.ip(), wire.key.remote.ip());
                seal(&mut frame, source, destination, header_length, self.support.transmit_checksum);
                let segment_size = wire.segment_size();
                let large = length - headers > usize::from(segment_size);
                frame.offload.segmentation = large.then(|| Segmentation {
                    kind: if source.is_ipv4() { SegmentationKind::Tcp4 } else { SegmentationKind::Tcp6 },
                    header_length: headers as u16,
                    segment_size,
                });
                out.send(IpPacket { source, destination, protocol: PROTOCOL, header_length, frame });
                result
            }
        }
    }
}

/// smoltcp writes IPv4 headers without options and IPv6 headers without extensions.
fn ip_header_length(packet: &[u8]) -> usize {
    if packet.first().is_some_and(|byte| byte >> 4 == 4) { 20 } else { 40 }
}

/// Our time as smoltcp's, which counts microseconds.
pub(super) fn smoltcp_time(now: Instant) -> SmoltcpInstant {
    SmoltcpInstant::from_micros((now.as_nanos() / 1000).cast_signed())
}

/// smoltcp's time as ours.
pub(super) fn platform_time(at: SmoltcpInstant) -> Instant {
    Instant::from_nanos(at.total_micros().max(0).cast_unsigned() * 1000)
}

/// An address as smoltcp's.
pub(super) fn endpoint(address: SocketAddr) -> smoltcp::wire::IpEndpoint {
    smoltcp::wire::IpEndpoint::new(address.ip().into(), address.port())
}

//! Echo requests of our own: is a host there, and how far?
//!
//! Reading: RFC 792, RFC 4443 (4.1, 4.2).

use core::future::poll_fn;
use core::task::{Poll, Waker};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use super::egress::Egress;
use super::icmp::{self, ICMPV4};
use super::ndp::ICMPV6;
use super::stack::Shared;
use super::{IpOutput, IpPacket, checksum};

/// Requests under way, at most.
const MAX_PINGS: usize = 256;

/// Requests that wait for their replies, by identifier.
#[derive(Default)]
pub(super) struct Pings {
    waiting: BTreeMap<u16, Ping>,
}

struct Ping {
    to: IpAddr,
    payload: Vec<u8>,
    answered: bool,
    waker: Option<Waker>,
}

impl Pings {
    /// Takes an echo reply whose checksum is right.
    pub(super) fn receive(&mut self, packet: &IpPacket) {
        let Some(message) = packet.frame.bytes().get(packet.header_length..) else { return };
        let Some((header, payload)) = message.split_at_checked(icmp::HEADER_LENGTH) else { return };
        let identifier = u16::from_be_bytes([header[4], header[5]]);
        if let Some(ping) = self.waiting.get_mut(&identifier)
            && ping.to == packet.source
            && ping.payload == payload
        {
            ping.answered = true;
            ping.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    fn start(&mut self, egress: &mut Egress, to: IpAddr, length: usize) -> io::Result<u16> {
        if self.waiting.len() >= MAX_PINGS {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let source = egress.source_for(to).ok_or(io::ErrorKind::NetworkUnreachable)?;
        let mut payload = vec![0; length];
        egress.entropy().fill(&mut payload);
        let mut identifier = egress.random_u16();
        while self.waiting.contains_key(&identifier) {
            identifier = identifier.wrapping_add(1);
        }
        let (protocol, kind) = if to.is_ipv4() { (ICMPV4, 8) } else { (ICMPV6, 128) };
        let packet = egress.packet(source, to, protocol, icmp::HEADER_LENGTH + length, |message| {
            message[..4].copy_from_slice(&[kind, 0, 0, 0]);
            message[4..6].copy_from_slice(&identifier.to_be_bytes());
            message[6..8].fill(0);
            message[8..].copy_from_slice(&payload);
            let sum = match protocol {
                ICMPV4 => checksum::plain(message),
                _ => checksum::transport(source, to, protocol, message),
            };
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        });
        egress.send(packet.ok_or(io::ErrorKind::InvalidInput)?);
        self.waiting.insert(identifier, Ping { to, payload, answered: false, waker: None });
        Ok(identifier)
    }
}

/// Forgets the request when the one who waits gives up.
struct Guard {
    shared: Rc<Shared>,
    identifier: u16,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.core.borrow_mut().pings.waiting.remove(&self.identifier);
    }
}

/// Sends an echo request with `length` random bytes to `to`, and completes with the time until the reply.
pub(super) async fn ping(shared: Rc<Shared>, to: IpAddr, length: usize) -> io::Result<Duration> {
    let started = shared.handle.now();
    let identifier = {
        let core = &mut *shared.core.borrow_mut();
        core.egress.now = started;
        core.pings.start(&mut core.egress, to, length)?
    };
    shared.wake_driver();
    let guard = Guard { shared, identifier };
    poll_fn(|context| {
        let mut core = guard.shared.core.borrow_mut();
        match core.pings.waiting.get_mut(&identifier) {
            Some(ping) if !ping.answered => {
                ping.waker = Some(context.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    })
    .await;
    Ok(guard.shared.handle.now().since(started))
}

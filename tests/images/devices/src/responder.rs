//! Answers ARP, ping and UDP echo (RFC 862) for one address, by turning each frame round where it lies.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::task::Poll;

use platform::device::{Checksum, Clock, Frame, Net, Offload};

/// Frames answered before others run.
const BATCH: usize = 64;

/// Answers that wait for room, at most.
const QUEUE: usize = 512;

const ETHERNET: usize = 14;

/// Answers for ever.
pub(crate) async fn answer(mut net: Box<dyn Net>, address: Ipv4Addr, clock: Rc<dyn Clock>) {
    let mac = net.properties().mac;
    let mut answers = VecDeque::new();
    let mut frames = Vec::new();
    let mut largest_batch = 0;
    let mut reported = clock.now();
    poll_fn(|context| {
        let polled = net.poll_receive(context, &mut frames, BATCH);
        if let Poll::Ready(count) = polled {
            context.waker().wake_by_ref();
            if count > largest_batch && clock.now().since(reported).as_secs() >= 1 {
                largest_batch = count;
                reported = clock.now();
                println!("{count} frames in one batch");
            }
        }
        answers.extend(frames.drain(..).filter_map(|frame| turn_round(frame, mac, address)));
        answers.truncate(QUEUE);
        net.transmit(context, &mut answers);
        Poll::<()>::Pending
    })
    .await;
}

/// Makes a frame its own answer, if it asks for one.
fn turn_round(mut frame: Frame, mac: [u8; 6], address: Ipv4Addr) -> Option<Frame> {
    let bytes = frame.bytes_mut();
    let ether_type = bytes.get(12..ETHERNET)?;
    match ether_type {
        [0x08, 0x06] => arp(bytes.get_mut(ETHERNET..ETHERNET + 28)?, mac, address)?,
        [0x08, 0x00] => ipv4(bytes.get_mut(ETHERNET..)?, address)?,
        _ => return None,
    }
    let (destination, source) = bytes.split_at_mut(6);
    destination.copy_from_slice(&source[..6]);
    source[..6].copy_from_slice(&mac);
    // What the sender left to be finished is still to be finished: the pseudo-header's sum is the same both ways.
    if !matches!(frame.offload.checksum, Checksum::Partial { .. }) {
        frame.offload = Offload::default();
    }
    Some(frame)
}

/// RFC 826.
fn arp(packet: &mut [u8], mac: [u8; 6], address: Ipv4Addr) -> Option<()> {
    if packet[6..8] != [0, 1] || packet[24..28] != address.octets() {
        return None;
    }
    packet[7] = 2;
    packet.copy_within(8..18, 18);
    packet[8..14].copy_from_slice(&mac);
    packet[14..18].copy_from_slice(&address.octets());
    Some(())
}

/// Turns a ping or a datagram to the echo port round. Swapping addresses leaves the sums of IP and UDP as they are.
fn ipv4(packet: &mut [u8], address: Ipv4Addr) -> Option<()> {
    const ICMP: u8 = 1;
    const UDP: u8 = 17;
    if packet.len() < 28 || packet[0] != 0x45 || packet[16..20] != address.octets() {
        return None;
    }
    let protocol = packet[9];
    let (header, transport) = packet.split_at_mut(20);
    let (source, destination) = header[12..20].split_at_mut(4);
    source.swap_with_slice(destination);
    match protocol {
        ICMP if transport[0] == 8 => {
            transport[0] = 0;
            // The sum of one word has become less by 0x0800 (RFC 1624).
            let sum = u32::from(u16::from_be_bytes([transport[2], transport[3]])) + 0x0800;
            let sum = (sum & 0xffff) + (sum >> 16);
            transport[2..4].copy_from_slice(&(sum as u16).to_be_bytes());
            Some(())
        }
        UDP if transport[2..4] == 7_u16.to_be_bytes() => {
            let (source, destination) = transport[..4].split_at_mut(2);
            source.swap_with_slice(destination);
            Some(())
        }
        _ => None,
    }
}

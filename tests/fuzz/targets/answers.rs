//! Answers to what a stack asks by itself: a network on which the servers of names, time and addresses say what the
//! fuzzer wants, with the identifiers of the question put in.
#![no_main]

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use platform::device::drbg::Drbg;
use platform::device::{
    Checksum, Entropy, Frame, FramePool, ManualClock, Net, NetProperties, OffloadSupport,
};
use platform::executor::Executor;
use platform::host::SimulatedHost;
use platform::net::{Ipv4Configuration, NtpServer, Stack, StackConfiguration, StaticAddresses};

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SERVER: [u8; 4] = [10, 0, 0, 2];

/// Ports of the servers; the first byte of a message in the input says which of them says it.
const PORTS: [u16; 3] = [53, 123, 67];

struct Servers {
    pool: FramePool,
    messages: VecDeque<(u16, Vec<u8>)>,
    frames: VecDeque<Vec<u8>>,
    waker: Option<Waker>,
}

impl Servers {
    fn answer(&mut self, frame: &[u8]) {
        match frame.get(12..14) {
            Some([8, 6]) => self.frames.extend(resolve(frame)),
            Some([8, 0]) if frame.len() >= 42 && frame[14] == 0x45 && frame[23] == 17 => {
                let port = u16::from_be_bytes([frame[36], frame[37]]);
                let found = self.messages.iter().position(|(of, _)| *of == port);
                let Some((_, message)) = found.and_then(|found| self.messages.remove(found)) else { return };
                let message = fitted(port, message, &frame[42..]);
                self.frames.push_back(datagram(port, frame, &message));
            }
            _ => {}
        }
    }
}

/// The reply to an ARP request for any address but the asker's own.
fn resolve(frame: &[u8]) -> Option<Vec<u8>> {
    let (sender, target) = (frame.get(28..32)?, frame.get(38..42)?);
    if frame[20..22] != [0, 1] || sender == [0; 4] || sender == target {
        return None;
    }
    let reply = [&OURS[..], &THEIRS, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &THEIRS, target, &OURS, sender];
    Some(reply.concat())
}

/// The message with what makes it the answer to this question.
fn fitted(port: u16, mut message: Vec<u8>, question: &[u8]) -> Vec<u8> {
    let mut copy = |from: usize, to: usize, length: usize| {
        if let (Some(from), Some(to)) = (question.get(from..from + length), message.get_mut(to..to + length)) {
            to.copy_from_slice(from);
        }
    };
    match port {
        // The question itself, up to the record of EDNS that comes after it.
        53 => {
            copy(0, 0, 2);
            if message.len() >= 12 && question.len() > 23 {
                message.splice(12..12, question[12..question.len() - 11].iter().copied());
            }
        }
        123 => copy(40, 24, 8),
        _ => {
            copy(4, 4, 4);
            copy(28, 28, 16);
        }
    }
    message
}

/// A datagram to who sent `question`.
fn datagram(port: u16, question: &[u8], message: &[u8]) -> Vec<u8> {
    let length = (message.len() + 28) as u16;
    let to = if port == 67 { &[255; 4] } else { &question[26..30] };
    let mut header = [&[0x45, 0][..], &length.to_be_bytes(), &[0, 0, 0, 0, 64, 17, 0, 0], &SERVER, to].concat();
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    let ports = [&question[36..38], &question[34..36]].concat();
    let udp = [&ports[..], &(length - 20).to_be_bytes(), &[0, 0], message].concat();
    [&OURS[..], &THEIRS, &[8, 0], &header, &udp].concat()
}

impl Net for Servers {
    fn properties(&self) -> NetProperties {
        let offload = OffloadSupport { receive: true, ..OffloadSupport::default() };
        NetProperties { mac: OURS, mtu: 1500, offload }
    }

    fn pool(&self) -> &FramePool {
        &self.pool
    }

    fn poll_receive(&mut self, context: &mut Context<'_>, frames: &mut Vec<Frame>, limit: usize) -> Poll<usize> {
        let count = limit.min(self.frames.len());
        for bytes in self.frames.drain(..count) {
            let mut frame = self.pool.copy_of(&bytes);
            frame.offload.checksum = Checksum::Verified;
            frames.push(frame);
        }
        if count > 0 {
            return Poll::Ready(count);
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn transmit(&mut self, _: &mut Context<'_>, frames: &mut VecDeque<Frame>) {
        for frame in frames.drain(..) {
            self.answer(frame.bytes());
        }
        if !self.frames.is_empty()
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

struct Seeded(std::cell::RefCell<Drbg>);

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.borrow_mut().fill(bytes);
    }
}

/// A byte that says whether the address is leased, and messages: a 16-bit length, whose it is, and its bytes.
fn read(bytes: &[u8]) -> (bool, VecDeque<(u16, Vec<u8>)>) {
    let Some((&leased, mut rest)) = bytes.split_first() else { return (false, VecDeque::new()) };
    let mut messages = VecDeque::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len()).min(1400);
        if let Some((server, message)) = after[..length].split_first() {
            messages.push_back((PORTS[usize::from(*server) % PORTS.len()], message.to_vec()));
        }
        rest = &after[length..];
    }
    (leased & 1 != 0, messages)
}

fuzz_target!(|bytes: &[u8]| {
    let (leased, messages) = read(bytes);
    let clock = Rc::new(ManualClock::new(Duration::from_secs(1_800_000_000)));
    let executor = Executor::new(clock.clone());
    let handle = executor.handle();
    let entropy: Rc<dyn Entropy> = Rc::new(Seeded(Drbg::new(&[7; 32]).into()));
    let net =
        Box::new(Servers { pool: FramePool::default(), messages, frames: VecDeque::new(), waker: None });
    let fixed = StaticAddresses {
        addresses: vec!["10.0.0.1/24".parse().expect("an address")],
        ..StaticAddresses::default()
    };
    let configuration = StackConfiguration {
        hostname: Some("fuzz".into()),
        ipv4: if leased { Ipv4Configuration::Dhcp } else { Ipv4Configuration::Static(fixed) },
        dns_servers: if leased { Vec::new() } else { vec![SERVER.into()] },
        ntp: Some(if leased { NtpServer::FromDhcp } else { NtpServer::Address(SERVER.into()) }),
        ..StackConfiguration::default()
    };
    let stack = Stack::new(&handle, entropy, net, &configuration);
    let main = {
        let handle = handle.clone();
        async move {
            let _ = handle.timeout(Duration::from_secs(20), stack.ready()).await;
            for name in ["a.example", "b.example"] {
                let _ = handle.timeout(Duration::from_secs(20), stack.resolve(name)).await;
            }
            let _ = (stack.lease(), stack.time_status(), stack.name_servers(), stack.routes());
            handle.sleep(Duration::from_secs(4000)).await;
        }
    };
    executor.run(&SimulatedHost::new(clock), main).expect("no panic");
    assert_eq!(handle.panics(), 0);
});

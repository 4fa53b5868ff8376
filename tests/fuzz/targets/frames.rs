//! Ethernet frames into a whole network stack, with checksums off: each frame is taken for verified, and the checksum of
//! an IPv4 header is put right before, so that the fuzzer need not find it.
#![no_main]

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use platform::device::drbg::Drbg;
use platform::device::{
    Checksum, Entropy, Frame, FramePool, ManualClock, Net, NetProperties, OffloadSupport,
};
use platform::executor::Executor;
use platform::host::SimulatedHost;
use platform::net::{Ipv4Configuration, Stack, StackConfiguration, StaticAddresses};

/// A network on which these frames arrive, and whatever is sent is thrown away.
struct Frames {
    pool: FramePool,
    frames: VecDeque<Vec<u8>>,
}

impl Net for Frames {
    fn properties(&self) -> NetProperties {
        let offload = OffloadSupport { receive: true, ..OffloadSupport::default() };
        NetProperties { mac: [2, 0, 0, 0, 0, 1], mtu: 1500, offload }
    }

    fn pool(&self) -> &FramePool {
        &self.pool
    }

    fn poll_receive(&mut self, _: &mut Context<'_>, frames: &mut Vec<Frame>, limit: usize) -> Poll<usize> {
        let count = limit.min(self.frames.len());
        for bytes in self.frames.drain(..count) {
            let mut frame = self.pool.copy_of(&bytes);
            frame.offload.checksum = Checksum::Verified;
            frames.push(frame);
        }
        if count == 0 { Poll::Pending } else { Poll::Ready(count) }
    }

    fn transmit(&mut self, _: &mut Context<'_>, frames: &mut VecDeque<Frame>) {
        frames.clear();
    }
}

struct Seeded(std::cell::RefCell<Drbg>);

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.borrow_mut().fill(bytes);
    }
}

/// Puts the header checksum of an IPv4 packet in an Ethernet frame right.
fn repair(frame: &mut [u8]) {
    if frame.get(12..14) != Some(&[8, 0]) || frame.len() < 34 {
        return;
    }
    let length = usize::from(frame[14] & 15) * 4;
    let Some(header) = frame.get_mut(14..14 + length).filter(|header| header.len() >= 20) else { return };
    header[10..12].fill(0);
    let sum: u32 =
        header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
}

fuzz_target!(|bytes: &[u8]| {
    // A 16-bit length before each frame.
    let mut frames = VecDeque::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len()).min(9000);
        let mut frame = after[..length].to_vec();
        repair(&mut frame);
        frames.push_back(frame);
        rest = &after[length..];
    }
    let clock = Rc::new(ManualClock::new(Duration::from_secs(1_800_000_000)));
    let executor = Executor::new(clock.clone());
    let handle = executor.handle();
    let entropy: Rc<dyn Entropy> = Rc::new(Seeded(Drbg::new(&[7; 32]).into()));
    let net = Box::new(Frames { pool: FramePool::default(), frames });
    let configuration = StackConfiguration {
        ipv4: Ipv4Configuration::Static(StaticAddresses {
            addresses: vec!["10.0.0.1/24".parse().expect("an address")],
            ..StaticAddresses::default()
        }),
        ..StackConfiguration::default()
    };
    let stack = Stack::new(&handle, entropy, net, &configuration);
    let listener = stack.listen(80, 16).expect("a free port");
    let socket = stack.bind_udp(53).expect("a free port");
    let main = {
        let handle = handle.clone();
        async move {
            handle.sleep(Duration::from_secs(5)).await;
            drop((listener, socket, stack));
        }
    };
    executor.run(&SimulatedHost::new(clock), main).expect("no panic");
    assert_eq!(handle.panics(), 0);
});

//! The driver against a network device of software.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::model::{CountingWaker, ModelDevice, ModelTransport, TickingClock};
use super::super::transport::DeviceType;
use super::net_feature::*;
use super::transmit::LARGE_IN_FLIGHT;
use super::*;
use crate::device::{Checksum, Offload, Segmentation, SegmentationKind};

const MODERN: u64 = feature::VERSION_1 | feature::EVENT_IDX;
const EVERYTHING: u64 =
    MODERN | CSUM | GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | HOST_TSO4 | HOST_TSO6 | MRG_RXBUF | MAC | STATUS;
const OUR_MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// A driver with its device, and somebody who waits for it.
struct Bench {
    net: VirtioNet,
    device: Rc<RefCell<ModelDevice>>,
    clock: Rc<TickingClock>,
    waker: Arc<CountingWaker>,
}

impl Bench {
    fn new(features: u64) -> Self {
        Self::with(features, |_| {})
    }

    fn with(features: u64, adjust: impl FnOnce(&mut ModelDevice)) -> Self {
        let mut device = ModelDevice::new(DeviceType::Net, features);
        device.config = [&OUR_MAC[..], &[1, 0, 0, 0, 0xdc, 5]].concat();
        adjust(&mut device);
        let device = device.shared();
        let clock = Rc::new(TickingClock::default());
        let shared: Rc<dyn Clock> = Rc::clone(&clock) as _;
        let net = VirtioNet::new(ModelTransport::boxed(&device), &shared, &FramePool::default())
            .expect("the device is sound");
        Self { net, device, clock, waker: Arc::default() }
    }

    fn receive(&mut self, limit: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        let polled = self.waker.with(|context| self.net.poll_receive(context, &mut frames, limit));
        assert_eq!(polled.is_pending(), frames.is_empty());
        frames
    }

    fn transmit(&mut self, frames: &mut VecDeque<Frame>) {
        self.waker.with(|context| self.net.transmit(context, frames));
    }

    /// The device receives a packet: writes header and data to as many buffers as they need.
    fn deliver(&self, header: &[u8], data: &[u8]) -> usize {
        let mut device = self.device.borrow_mut();
        let queue = &mut device.queues[0];
        let packet = [header, data].concat();
        let (mut written, mut chains) = (0, Vec::new());
        while written < packet.len() {
            let chain = queue.take().expect("the driver posted enough buffers");
            let length = chain.write(&packet[written..]);
            written += length as usize;
            chains.push((chain, length));
        }
        if chains.len() > 1 {
            let first = &chains[0].0;
            let mut whole = packet[..12].to_vec();
            whole[10..12].copy_from_slice(&(chains.len() as u16).to_le_bytes());
            first.write(&whole);
        }
        let count = chains.len();
        chains.into_iter().for_each(|(chain, length)| queue.give(u32::from(chain.head), length));
        count
    }

    /// The device sends whatever the driver gave it; returns header and data of each.
    fn sent(&self) -> Vec<Vec<u8>> {
        let mut device = self.device.borrow_mut();
        let queue = &mut device.queues[1];
        let mut sent = Vec::new();
        while let Some(chain) = queue.take() {
            sent.push(chain.read());
            queue.give(u32::from(chain.head), 0);
        }
        sent
    }
}

const PLAIN: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];

/// Ethernet, IPv4 and TCP headers, the checksum field at 34 + 16, and `payload` bytes after.
fn tcp_frame(payload: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..54 + payload).map(|index| index as u8).collect();
    frame[46] = 5 << 4;
    frame
}

#[test]
fn what_the_device_is_follows_from_its_features() {
    let bench = Bench::new(EVERYTHING);
    let offload =
        OffloadSupport { transmit_checksum: true, transmit_tcp4: true, transmit_tcp6: true, receive: true };
    assert_eq!(bench.net.properties(), NetProperties { mac: OUR_MAC, mtu: 1500, offload });
    assert_eq!(bench.device.borrow().accepted, EVERYTHING);

    // What depends on a feature is not accepted without it.
    let bench = Bench::new(EVERYTHING & !(CSUM | MRG_RXBUF));
    let accepted = bench.device.borrow().accepted;
    assert_eq!(accepted & (HOST_TSO4 | HOST_TSO6 | GUEST_TSO4 | GUEST_TSO6), 0);
    assert!(!bench.net.properties().offload.transmit_tcp4);

    let bench = Bench::with(MODERN | MTU, |device| device.config[10..12].copy_from_slice(&[0x28, 0x23]));
    assert_eq!(bench.net.properties().mtu, 9000);
    assert_eq!(bench.net.properties().mac[0] & 3, 2, "a local address where the device has none");
}

#[test]
fn a_frame_is_handed_up_where_the_device_put_it() {
    let mut bench = Bench::new(EVERYTHING);
    assert!(bench.receive(8).is_empty());
    bench.deliver(&PLAIN, b"first frame");
    bench.deliver(&PLAIN, b"second");
    bench.deliver(&PLAIN, b"third");
    let frames = bench.receive(2);
    assert_eq!(frames.len(), 2, "no more than the limit");
    assert_eq!(frames[0].bytes(), b"first frame");
    assert_eq!(frames[0].headroom(), Frame::HEADROOM, "there is room for headers before it");
    assert_eq!(frames[1].bytes(), b"second");
    assert_eq!(frames[0].offload, Offload::default());
    assert_eq!(bench.receive(2)[0].bytes(), b"third");
    assert!(bench.receive(2).is_empty());
}

#[test]
fn offloads_are_read_from_the_header() {
    let mut bench = Bench::new(EVERYTHING);
    bench.deliver(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], b"verified");
    bench.deliver(&[1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 1, 0], &tcp_frame(10));
    // hdr_len is wrong; the TCP header is 20 bytes from 34.
    bench.deliver(&[1, 1, 99, 0, 0xb4, 5, 34, 0, 16, 0, 1, 0], &tcp_frame(3000));
    let frames = bench.receive(8);
    assert_eq!(frames[0].offload.checksum, Checksum::Verified);
    let partial = Checksum::Partial { start: 34, offset: 16 };
    assert_eq!(frames[1].offload, Offload { checksum: partial, segmentation: None });
    let segmentation =
        Some(Segmentation { kind: SegmentationKind::Tcp4, header_length: 54, segment_size: 1460 });
    assert_eq!(frames[2].offload, Offload { checksum: partial, segmentation });
    assert_eq!(frames[2].bytes(), tcp_frame(3000));
}

#[test]
fn flags_count_only_if_they_were_agreed_on() {
    let mut bench = Bench::new(MODERN | MRG_RXBUF);
    bench.deliver(&[1, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0], b"data");
    assert_eq!(bench.receive(1)[0].offload, Offload::default());
}

#[test]
fn a_large_packet_is_made_one_frame() {
    let mut bench = Bench::new(EVERYTHING);
    let data = tcp_frame(65_000);
    let buffers = bench.deliver(&[1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0], &data);
    assert!(buffers > 30);
    let frames = bench.receive(1);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].bytes(), data);
    // The buffers are posted again: seven such packets fit, time after time.
    for _ in 0..100 {
        bench.deliver(&[1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0], &data);
        assert_eq!(bench.receive(1)[0].bytes(), data);
    }
}

#[test]
fn a_header_that_cannot_be_costs_its_packet_only() {
    let mut bench = Bench::new(EVERYTHING);
    for header in [
        [1, 0, 0, 0, 0, 0, 250, 0, 16, 0, 1, 0],
        [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0],
        [0, 1, 54, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        [0, 1, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 1, 0],
        [0, 3, 54, 0, 1, 0, 0, 0, 0, 0, 1, 0],
    ] {
        bench.deliver(&header, &tcp_frame(20));
    }
    bench.deliver(&PLAIN, b"");
    assert!(bench.receive(3).is_empty());
    assert_eq!(bench.waker.count(), 1, "there is more to look at");
    bench.deliver(&PLAIN, b"good");
    assert_eq!(bench.receive(8)[0].bytes(), b"good");
    assert_eq!(bench.net.state.borrow().receive.dropped, 6);
}

#[test]
fn nonsense_takes_the_device_out_of_service() {
    type Act = fn(&Bench);
    let acts: [Act; 4] = [
        |bench| bench.device.borrow_mut().queues[0].give(9999, 60),
        |bench| {
            let mut device = bench.device.borrow_mut();
            let chain = device.queues[0].take().expect("a buffer is posted");
            device.queues[0].give(u32::from(chain.head), chain.writable_length() + 1);
        },
        |bench| {
            let mut device = bench.device.borrow_mut();
            let chain = device.queues[0].take().expect("a buffer is posted");
            device.queues[0].give(u32::from(chain.head), 5);
        },
        |bench| {
            bench.deliver(&[0; 12], b"in no buffers");
        },
    ];
    for act in acts {
        for stuck in [false, true] {
            let mut bench = Bench::with(EVERYTHING, |device| device.stuck = stuck && device.status != 0);
            bench.device.borrow_mut().stuck = stuck;
            act(&bench);
            assert!(bench.receive(8).is_empty());
            assert!(!bench.net.link_up() || bench.clock.now().since(Instant::START) < LINK_AGE);
            bench.clock.advance(LINK_AGE);
            assert!(!bench.net.link_up());
            assert!(!bench.net.events().deliver(), "nobody is woken for it");
            let mut frames: VecDeque<_> = [bench.net.pool().copy_of(b"frame")].into();
            bench.transmit(&mut frames);
            assert!(frames.is_empty(), "frames for it are lost, as on a cut cable");
        }
    }
}

#[test]
fn packets_of_more_buffers_than_any_packet_needs_are_nonsense() {
    let mut bench = Bench::new(EVERYTHING);
    {
        let mut device = bench.device.borrow_mut();
        for position in 0..40 {
            let chain = device.queues[0].take().expect("a buffer is posted");
            let mut bytes = vec![0; chain.writable_length() as usize];
            if position == 0 {
                bytes[10..12].copy_from_slice(&[200, 0]);
            }
            chain.write(&bytes);
            device.queues[0].give(u32::from(chain.head), bytes.len() as u32);
        }
    }
    assert!(bench.receive(8).is_empty());
    bench.clock.advance(LINK_AGE);
    assert!(!bench.net.link_up());
}

#[test]
fn a_frame_is_sent_from_where_it_lies() {
    let mut bench = Bench::new(EVERYTHING);
    let pool = bench.net.pool().clone();
    let mut plain = pool.copy_of(b"plain");
    let address = plain.bytes().as_ptr().addr();
    plain.offload = Offload::default();
    let mut large = pool.copy_of(&tcp_frame(9000));
    large.offload = Offload {
        checksum: Checksum::Partial { start: 34, offset: 16 },
        segmentation: Some(Segmentation {
            kind: SegmentationKind::Tcp4,
            header_length: 54,
            segment_size: 1460,
        }),
    };
    let mut frames: VecDeque<_> = [plain, large].into();
    bench.transmit(&mut frames);
    assert!(frames.is_empty());
    assert_eq!(bench.device.borrow().notified[1], 1, "one notification for the batch");
    {
        let chain = bench.device.borrow_mut().queues[1].take().expect("it was sent");
        assert_eq!(chain.readable.len(), 1);
        assert_eq!(chain.readable[0].0 as usize, address - 12, "not copied");
        assert_eq!(chain.read(), [&[0; 12][..], b"plain"].concat());
        bench.device.borrow_mut().queues[1].give(u32::from(chain.head), 0);
    }
    let sent = bench.sent();
    assert_eq!(sent[0][..12], [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0]);
    assert_eq!(sent[0][12..], tcp_frame(9000));
}

#[test]
fn sent_frames_return_to_the_pool() {
    let mut bench = Bench::new(EVERYTHING);
    let pool = bench.net.pool().clone();
    let mut frames: VecDeque<_> = (0..100).map(|_| pool.copy_of(b"frame")).collect();
    bench.transmit(&mut frames);
    assert_eq!(format!("{pool:?}"), "FramePool { free: 0 small, 0 large }");
    assert_eq!(bench.sent().len(), 100);
    bench.transmit(&mut VecDeque::new());
    assert_eq!(format!("{pool:?}"), "FramePool { free: 100 small, 0 large }");
}

#[test]
fn frames_beyond_the_queue_wait_in_order_and_the_sender_is_woken() {
    let mut bench = Bench::with(EVERYTHING, |device| device.queue_size = 8);
    let pool = bench.net.pool().clone();
    let mut frames: VecDeque<_> = (0..20_u8).map(|number| pool.copy_of(&[number])).collect();
    bench.transmit(&mut frames);
    assert_eq!(frames.len(), 12);
    let events = bench.net.events();
    assert!(!events.deliver() && !events.arm(), "the device has not sent anything");
    let mut sent: Vec<u8> = bench.sent().iter().map(|frame| frame[12]).collect();
    assert!(bench.device.borrow_mut().queues[1].interrupts());
    assert!(events.deliver());
    assert_eq!(bench.waker.count(), 1);
    while !frames.is_empty() {
        bench.transmit(&mut frames);
        sent.extend(bench.sent().iter().map(|frame| frame[12]));
    }
    assert_eq!(sent, (0..20).collect::<Vec<_>>());
}

#[test]
fn large_frames_in_flight_are_few() {
    let mut bench = Bench::new(EVERYTHING);
    let pool = bench.net.pool().clone();
    let mut frames: VecDeque<_> = (0..40).map(|_| pool.copy_of(&tcp_frame(5000))).collect();
    bench.transmit(&mut frames);
    assert_eq!(frames.len(), 40 - usize::from(LARGE_IN_FLIGHT));
    let events = bench.net.events();
    assert!(!events.arm());
    bench.sent();
    assert!(bench.device.borrow_mut().queues[1].interrupts());
    assert!(events.deliver());
    bench.transmit(&mut frames);
    assert!(frames.is_empty());
    bench.sent();
    assert!(!events.deliver(), "nobody waits");
    assert_eq!(format!("{pool:?}"), "FramePool { free: 0 small, 16 large }", "all are back, or freed");
}

#[test]
fn a_receiver_who_waits_is_woken_once() {
    let mut bench = Bench::new(EVERYTHING);
    let events = bench.net.events();
    assert!(bench.receive(8).is_empty());
    assert!(!events.deliver(), "there is nothing");
    assert!(!events.arm());
    bench.deliver(&PLAIN, b"frame");
    assert!(bench.device.borrow_mut().queues[0].interrupts(), "the driver asked for an interrupt");
    assert!(events.deliver());
    assert!(!events.deliver());
    assert_eq!(bench.waker.count(), 1);
    assert_eq!(bench.device.borrow().acknowledged, 3);
    assert_eq!(bench.receive(8).len(), 1);
    bench.deliver(&PLAIN, b"frame");
    assert!(!bench.device.borrow_mut().queues[0].interrupts(), "no interrupts while it is polled");
}

#[test]
fn what_came_before_the_sleep_is_not_slept_over() {
    for features in [EVERYTHING, EVERYTHING & !feature::EVENT_IDX] {
        let mut bench = Bench::new(features);
        let events = bench.net.events();
        assert!(bench.receive(8).is_empty());
        assert!(!events.deliver());
        bench.deliver(&PLAIN, b"frame");
        assert!(!bench.device.borrow_mut().queues[0].interrupts(), "nobody asked for one");
        assert!(events.arm(), "sleeping now would miss it");
        assert!(events.deliver());
    }
}

#[test]
fn without_the_offload_the_driver_completes_the_checksum_and_sends_no_large_frame() {
    let mut bench = Bench::new(MODERN);
    let pool = bench.net.pool().clone();
    // A UDP datagram of RFC 1071's example bytes: 0001 f203 f4f5 f6f7 sum to ddf2.
    let mut frame = pool.copy_of(&[9, 9, 0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7, 0, 0]);
    frame.offload.checksum = Checksum::Partial { start: 2, offset: 8 };
    let mut large = pool.copy_of(&tcp_frame(3000));
    large.offload.segmentation =
        Some(Segmentation { kind: SegmentationKind::Tcp6, header_length: 54, segment_size: 1460 });
    let mut frames: VecDeque<_> = [frame, large].into();
    bench.transmit(&mut frames);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0][..12], [0; 12]);
    assert_eq!(sent[0][22..], (!0xddf2_u16).to_be_bytes());
    assert_eq!(bench.net.state.borrow().transmit.dropped, 1);
}

#[test]
fn a_frame_without_headroom_is_copied() {
    let mut bench = Bench::new(EVERYTHING);
    let mut frame = bench.net.pool().copy_of(&[7; 100]);
    frame.prepend(60).fill(1);
    bench.transmit(&mut [frame].into());
    assert_eq!(bench.sent()[0][12..], [[1; 60].as_slice(), &[7; 100]].concat());
}

#[test]
fn legacy_devices_have_shorter_headers_which_may_be_apart() {
    for (features, header, apart) in [
        (MAC | feature::ANY_LAYOUT, 10, false),
        (MAC, 10, true),
        (MAC | MRG_RXBUF | feature::ANY_LAYOUT, 12, false),
    ] {
        let mut bench = Bench::new(features);
        bench.deliver(&PLAIN[..header], b"received");
        bench.deliver(&PLAIN[..header], &[5; 1500]);
        let frames = bench.receive(8);
        assert_eq!(frames[0].bytes(), b"received");
        assert_eq!(frames[1].bytes(), [5; 1500]);
        bench.transmit(&mut [bench.net.pool().copy_of(b"sent")].into());
        let chain = bench.device.borrow_mut().queues[1].take().expect("it was sent");
        assert_eq!(chain.readable.len(), if apart { 2 } else { 1 });
        assert_eq!(chain.read()[header..], *b"sent");
    }
}

#[test]
fn the_link_is_looked_at_again_after_a_while() {
    let bench = Bench::new(EVERYTHING);
    assert!(bench.net.link_up());
    bench.device.borrow_mut().config[6] = 0;
    bench.clock.advance(LINK_AGE);
    assert!(!bench.net.link_up());
}

#[test]
fn jumbo_frames_without_merging_get_large_buffers() {
    let mut bench = Bench::with(MODERN | MTU, |device| device.config[10..12].copy_from_slice(&[0x28, 0x23]));
    for round in 0..100_u8 {
        assert_eq!(bench.deliver(&PLAIN, &[round; 9014]), 1);
        assert_eq!(bench.receive(8)[0].bytes(), [round; 9014]);
    }
}

#[test]
fn a_device_that_refuses_features_or_never_resets_is_reported() {
    let clock: Rc<dyn Clock> = Rc::new(TickingClock::default());
    let mut device = ModelDevice::new(DeviceType::Net, EVERYTHING);
    (device.stuck, device.status) = (true, 7);
    let error = VirtioNet::new(ModelTransport::boxed(&device.shared()), &clock, &FramePool::default()).err();
    assert_eq!(error, Some(TransportError::ResetTimedOut));
    let mut device = ModelDevice::new(DeviceType::Net, EVERYTHING);
    device.queue_size = 0;
    let error = VirtioNet::new(ModelTransport::boxed(&device.shared()), &clock, &FramePool::default()).err();
    assert_eq!(error, Some(TransportError::NoQueue(0)));
    // Modern in form, but without VERSION_1.
    let mut device = ModelDevice::new(DeviceType::Net, MAC);
    device.legacy = false;
    let error = VirtioNet::new(ModelTransport::boxed(&device.shared()), &clock, &FramePool::default()).err();
    assert_eq!(error, Some(TransportError::FeaturesRefused(MAC)));
}

proptest! {
    /// Whatever bytes the device puts into its buffers, and whatever lengths it claims, nothing panics and what comes up
    /// is within what it was lent.
    #[test]
    fn no_bytes_of_the_device_do_harm(
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), 0_u32..2100), 1..50),
    ) {
        let mut bench = Bench::new(EVERYTHING);
        for (bytes, length) in packets {
            {
                let mut device = bench.device.borrow_mut();
                let Some(queue) = device.queues.first_mut() else { break };
                let Some(chain) = queue.take() else { break };
                chain.write(&bytes);
                queue.give(u32::from(chain.head), length);
            }
            let mut frames = Vec::new();
            let _ = bench.waker.with(|context| bench.net.poll_receive(context, &mut frames, 4));
            for frame in frames {
                if let Some(segmentation) = frame.offload.segmentation {
                    prop_assert!(usize::from(segmentation.header_length) <= frame.len());
                    prop_assert!(segmentation.segment_size > 0);
                }
                if let Checksum::Partial { start, offset } = frame.offload.checksum {
                    prop_assert!(usize::from(start) + usize::from(offset) + 2 <= frame.len());
                }
            }
        }
    }

    /// Packets of any sizes come up as they were sent, merged or not, however they are polled.
    #[test]
    fn packets_of_any_size_come_up_whole(
        sizes in prop::collection::vec(1_usize..20_000, 1..40),
        limit in 1_usize..5,
    ) {
        let mut bench = Bench::new(EVERYTHING);
        for (number, &size) in sizes.iter().enumerate() {
            let data = vec![number as u8; size];
            bench.deliver(&PLAIN, &data);
            let frames = bench.receive(limit);
            prop_assert_eq!(frames.len(), 1);
            prop_assert_eq!(frames[0].bytes(), &data[..]);
        }
    }
}

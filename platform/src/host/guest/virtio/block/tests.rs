//! The driver against a block device of software.

use std::sync::Arc;

use super::super::model::{CountingWaker, ModelDevice, ModelTransport, TickingClock};
use super::super::transport::DeviceType;
use super::block_feature::*;
use super::*;

const MODERN: u64 = feature::VERSION_1 | feature::EVENT_IDX;
const DISK: usize = 64 * 1024;

struct Bench {
    block: VirtioBlock,
    device: Rc<RefCell<ModelDevice>>,
    disk: Vec<u8>,
    flushes: usize,
    clock: Rc<TickingClock>,
    waker: Arc<CountingWaker>,
}

impl Bench {
    fn new(features: u64) -> Self {
        Self::with(features, |_| {})
    }

    fn with(features: u64, adjust: impl FnOnce(&mut ModelDevice)) -> Self {
        let mut device = ModelDevice::new(DeviceType::Block, features);
        device.config = vec![0; 64];
        device.config[..8].copy_from_slice(&(DISK as u64 / 512).to_le_bytes());
        adjust(&mut device);
        let device = device.shared();
        let clock = Rc::new(TickingClock::default());
        let shared: Rc<dyn Clock> = Rc::clone(&clock) as _;
        let block = VirtioBlock::new(ModelTransport::boxed(&device), &shared).expect("the device is sound");
        Self { block, device, disk: vec![0; DISK], flushes: 0, clock, waker: Arc::default() }
    }

    fn submit(
        &mut self,
        operation: Operation,
        offset: u64,
        buffer: Vec<u8>,
    ) -> Result<RequestId, BlockError> {
        self.block.submit(Request { operation, offset, buffer }).map_err(|(error, _)| error)
    }

    fn poll(&mut self) -> Option<Completion> {
        match self.waker.with(|context| self.block.poll_complete(context)) {
            Poll::Ready(completion) => Some(completion),
            Poll::Pending => None,
        }
    }

    /// The device does what it was asked to, last request first; `status` is what it answers.
    fn work(&mut self, status: u8) -> usize {
        let mut device = self.device.borrow_mut();
        let queue = &mut device.queues[0];
        let mut chains: Vec<_> = std::iter::from_fn(|| queue.take()).collect();
        chains.reverse();
        let count = chains.len();
        for chain in chains {
            let read = chain.read();
            let kind = u32::from_le_bytes(read[..4].try_into().expect("four bytes"));
            let sector = u64::from_le_bytes(read[8..16].try_into().expect("eight bytes"));
            let at = sector as usize * 512;
            let mut answer = Vec::new();
            match kind {
                0 => answer.extend(&self.disk[at..at + chain.writable_length() as usize - 1]),
                1 => self.disk[at..at + read.len() - 16].copy_from_slice(&read[16..]),
                4 => self.flushes += 1,
                other => panic!("request of type {other}"),
            }
            answer.push(status);
            let written = chain.write(&answer);
            queue.give(u32::from(chain.head), written);
        }
        count
    }
}

#[test]
fn what_is_written_and_flushed_is_read_in_any_order() {
    let mut bench = Bench::new(MODERN | FLUSH);
    assert!(bench.block.properties().durable_flush);
    let write = bench.submit(Operation::Write, 1024, vec![7; 1024]).expect("it is valid");
    let other = bench.submit(Operation::Write, 4096, vec![9; 512]).expect("it is valid");
    assert!(bench.poll().is_none());
    assert_eq!(bench.work(0), 2);
    let done = [bench.poll().expect("one is done"), bench.poll().expect("the other is done")];
    assert_eq!(done.each_ref().map(|completion| completion.id), [other, write]);
    assert!(done.iter().all(|completion| completion.result.is_ok()));
    let flush = bench.submit(Operation::Flush, 0, Vec::new()).expect("it is valid");
    bench.work(0);
    assert_eq!((bench.poll().expect("it is done").id, bench.flushes), (flush, 1));
    bench.submit(Operation::Read, 512, vec![1; 4096]).expect("it is valid");
    bench.work(0);
    let read = bench.poll().expect("it is done").buffer;
    assert_eq!(read, [vec![0; 512], vec![7; 1024], vec![0; 2048], vec![9; 512]].concat());
}

#[test]
fn requests_are_checked() {
    let mut bench = Bench::with(MODERN | FLUSH | READ_ONLY | BLOCK_SIZE, |device| {
        device.config[20..24].copy_from_slice(&4096_u32.to_le_bytes());
    });
    let properties = bench.block.properties();
    assert_eq!((properties.sector_size, properties.capacity), (4096, DISK as u64));
    assert_eq!(bench.submit(Operation::Write, 0, vec![0; 4096]), Err(BlockError::ReadOnly));
    assert_eq!(bench.submit(Operation::Read, 512, vec![0; 4096]), Err(BlockError::OutOfRange));
    assert_eq!(bench.submit(Operation::Read, 0, vec![0; 512]), Err(BlockError::OutOfRange));
    assert_eq!(bench.submit(Operation::Read, DISK as u64, vec![0; 4096]), Err(BlockError::OutOfRange));
    assert!(bench.submit(Operation::Read, DISK as u64 - 4096, vec![0; 4096]).is_ok());
}

#[test]
fn a_full_queue_is_busy_until_something_completes() {
    let mut bench = Bench::with(MODERN | FLUSH, |device| device.queue_size = 16);
    let depth = bench.block.properties().queue_depth;
    assert_eq!(depth, 5);
    for number in 0..depth {
        bench.submit(Operation::Write, 512 * number as u64, vec![number as u8; 512]).expect("there is room");
    }
    assert_eq!(bench.submit(Operation::Flush, 0, Vec::new()), Err(BlockError::Busy));
    bench.work(0);
    assert!(bench.poll().is_some());
    assert!(bench.submit(Operation::Flush, 0, Vec::new()).is_ok());
}

#[test]
fn an_error_of_the_device_is_the_requests() {
    for status in [1, 2, STATUS_NONE] {
        let mut bench = Bench::new(MODERN | FLUSH);
        bench.submit(Operation::Read, 0, vec![0; 512]).expect("it is valid");
        bench.work(status);
        let completion = bench.poll().expect("it is done");
        assert_eq!(completion.result, Err(BlockError::Device));
        assert_eq!(completion.buffer.len(), 512);
    }
}

#[test]
fn without_the_feature_a_flush_completes_at_once_and_the_properties_say_so() {
    let mut bench = Bench::new(MODERN);
    assert!(!bench.block.properties().durable_flush);
    assert!(bench.poll().is_none());
    let flush = bench.submit(Operation::Flush, 0, Vec::new()).expect("it is valid");
    assert_eq!(bench.waker.count(), 1);
    assert_eq!(bench.poll().map(|completion| completion.id), Some(flush));
    assert_eq!(bench.work(0), 0);
}

#[test]
fn growth_is_seen() {
    let mut bench = Bench::new(MODERN);
    bench.device.borrow_mut().config[..8].copy_from_slice(&(2 * DISK as u64 / 512).to_le_bytes());
    bench.clock.advance(CAPACITY_AGE);
    assert_eq!(bench.block.properties().capacity, 2 * DISK as u64);
    assert!(bench.submit(Operation::Read, DISK as u64, vec![0; 512]).is_ok());
}

#[test]
fn whoever_waits_is_woken() {
    let mut bench = Bench::new(MODERN | FLUSH);
    let events = bench.block.events();
    bench.submit(Operation::Read, 0, vec![0; 512]).expect("it is valid");
    assert!(bench.poll().is_none());
    assert!(!events.deliver() && !events.arm());
    bench.work(0);
    assert!(bench.device.borrow_mut().queues[0].interrupts(), "the driver asked for an interrupt");
    assert!(events.deliver());
    assert_eq!(bench.waker.count(), 1);
}

#[test]
fn nonsense_fails_every_request_and_gives_the_buffers_back() {
    for stuck in [false, true] {
        let mut bench = Bench::new(MODERN | FLUSH);
        for number in 0..3_u8 {
            bench.submit(Operation::Write, 0, vec![number; 512]).expect("it is valid");
        }
        bench.device.borrow_mut().stuck = stuck;
        bench.device.borrow_mut().queues[0].give(77, 0);
        for _ in 0..3 {
            let completion = bench.poll().expect("it failed");
            assert_eq!((completion.result, completion.buffer.len()), (Err(BlockError::Device), 512));
        }
        assert!(bench.poll().is_none());
        assert_eq!(bench.submit(Operation::Read, 0, vec![0; 512]), Err(BlockError::Device));
    }
}

#[test]
fn waiting_ends_with_the_completion_or_with_patience() {
    let mut bench = Bench::new(MODERN | FLUSH);
    assert!(bench.block.wait_complete().is_none(), "nothing is in flight");
    let read = bench.submit(Operation::Read, 0, vec![1; 512]).expect("it is valid");
    bench.work(0);
    let completion = bench.block.wait_complete().expect("it is done");
    assert_eq!((completion.id, completion.result), (read, Ok(())));
    bench.submit(Operation::Read, 0, vec![1; 512]).expect("it is valid");
    let before = bench.clock.now();
    let completion = bench.block.wait_complete().expect("it failed");
    assert_eq!(completion.result, Err(BlockError::Device));
    assert!(bench.clock.now().since(before) >= WAIT_TIME);
}

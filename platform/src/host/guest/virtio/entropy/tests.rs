//! The driver against an entropy device of software.

use super::super::model::{ModelDevice, ModelTransport, TickingClock};
use super::super::transport::DeviceType;
use super::*;

/// A driver whose device answers each request with what `answer` makes of its length: the bytes, and how many it says
/// there are.
fn driver(answer: impl Fn(u32) -> Option<(Vec<u8>, u32)> + 'static) -> VirtioEntropy {
    let device = ModelDevice::new(DeviceType::Entropy, feature::VERSION_1 | feature::EVENT_IDX).shared();
    let transport = ModelTransport::reacting(&device, move |device, index| {
        let queue = &mut device.queues[usize::from(index)];
        while let Some(chain) = queue.take() {
            if let Some((bytes, written)) = answer(chain.writable_length()) {
                chain.write(&bytes);
                queue.give(u32::from(chain.head), written);
            }
        }
        let _ = queue.want_notification();
    });
    let clock: Rc<dyn Clock> = Rc::new(TickingClock::default());
    VirtioEntropy::new(transport, &clock).expect("the device is sound")
}

#[test]
fn bytes_come_in_whatever_portions_the_device_likes() {
    for portion in [1, 7, 64] {
        let mut entropy = driver(move |length| Some((vec![0xa5; 64], length.min(portion))));
        let mut seed = [0; 100];
        assert_eq!(entropy.fill(&mut seed), Ok(()));
        assert_eq!(seed, [0xa5; 100]);
    }
}

#[test]
fn a_silent_device_is_given_up() {
    let mut entropy = driver(|_| None);
    assert_eq!(entropy.fill(&mut [0; 32]), Err(EntropyError::TimedOut));
    assert_eq!(entropy.fill(&mut [0; 32]), Err(EntropyError::Broken));
}

#[test]
fn a_device_that_claims_too_much_or_nothing_is_given_up() {
    let mut entropy = driver(|length| Some((Vec::new(), length + 1)));
    assert_eq!(entropy.fill(&mut [0; 32]), Err(EntropyError::Broken));
    let mut entropy = driver(|_| Some((Vec::new(), 0)));
    assert_eq!(entropy.fill(&mut [0; 32]), Err(EntropyError::Broken));
}

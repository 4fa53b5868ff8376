//! Answers that are still good.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_proto::rr::{Name, RecordType};

use super::message::Answer;
use crate::device::Instant;

/// Answers kept, at most.
const MAX_ANSWERS: usize = 256;
/// How long an answer is good at least and at most: an image asks for few names, often; and what changed must be noticed.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);

/// The addresses of names, and how many questions are under way.
#[derive(Default)]
pub(in crate::net) struct Cache {
    answers: BTreeMap<(String, u16), (Vec<IpAddr>, Instant)>,
    pub(super) in_flight: usize,
}

impl Cache {
    pub(super) fn get(&mut self, now: Instant, name: &Name, kind: RecordType) -> Option<Vec<IpAddr>> {
        let key = key(name, kind);
        match self.answers.get(&key) {
            Some((addresses, until)) if *until > now => Some(addresses.clone()),
            Some(_) => {
                self.answers.remove(&key);
                None
            }
            None => None,
        }
    }

    pub(super) fn put(&mut self, now: Instant, name: &Name, kind: RecordType, answer: &Answer) {
        if self.answers.len() >= MAX_ANSWERS {
            self.answers.retain(|_, (_, until)| *until > now);
        }
        if self.answers.len() >= MAX_ANSWERS {
            let soonest = self.answers.iter().min_by_key(|(_, (_, until))| *until);
            if let Some(soonest) = soonest.map(|(key, _)| key.clone()) {
                self.answers.remove(&soonest);
            }
        }
        let until = now + answer.lifetime.clamp(SHORTEST, LONGEST);
        self.answers.insert(key(name, kind), (answer.addresses.clone(), until));
    }
}

fn key(name: &Name, kind: RecordType) -> (String, u16) {
    (name.to_lowercase().to_ascii(), kind.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_age_and_are_bounded() {
        let mut cache = Cache::default();
        let answer =
            Answer { addresses: vec![IpAddr::from([192, 0, 2, 1])], lifetime: Duration::from_secs(60) };
        let now = Instant::START;
        let name = |number: u32| Name::from_ascii(format!("n{number}.example.")).unwrap();
        for number in 0..1000 {
            cache.put(now, &name(number), RecordType::A, &answer);
        }
        assert_eq!(cache.answers.len(), MAX_ANSWERS);
        assert_eq!(cache.get(now, &name(999), RecordType::A), Some(answer.addresses.clone()));
        assert_eq!(
            cache.get(now, &Name::from_ascii("N999.EXAMPLE.").unwrap(), RecordType::A),
            Some(answer.addresses)
        );
        assert_eq!(cache.get(now, &name(999), RecordType::AAAA), None);
        assert_eq!(cache.get(now + Duration::from_secs(60), &name(999), RecordType::A), None);
    }
}

//! The question, and which messages answer it.

use core::time::Duration;
use std::io;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};

use crate::device::Entropy;

/// The largest answer that we take over UDP: never fragmented (RFC 9715, 3.2).
const UDP_PAYLOAD: u16 = 1232;
/// Aliases that lead from one to the next, at most.
const MAX_ALIASES: usize = 8;
/// Addresses taken from an answer, at most.
const MAX_ADDRESSES: usize = 32;
/// How long it counts that there is nothing, if the answer does not say (RFC 2308, 5, has at most three hours).
const NEGATIVE_LIFETIME: Duration = Duration::from_secs(30);
/// The longest, whatever it says: names appear, and one who waits for that should not wait for long.
const LONGEST_NEGATIVE_LIFETIME: Duration = Duration::from_secs(300);

/// A question as it was put.
pub(super) struct Question {
    identifier: u16,
    name: Name,
    kind: RecordType,
    /// Whether the case of the letters was mixed, so that answers must have the same.
    mixed: bool,
}

/// What a name server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// None if there is no such name or no such record.
    pub addresses: Vec<IpAddr>,
    /// How long that is good.
    pub lifetime: Duration,
}

/// What a message is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answer(Answer),
    /// There is more, over TCP.
    Truncated,
    /// The server cannot or will not answer.
    Refused(&'static str),
    /// Not an answer to this question.
    Stray,
}

impl Question {
    /// A question for the records of `kind` of `name`, with a random identifier and, if `mix_case`, letters of random case.
    pub(super) fn new(entropy: &dyn Entropy, name: &Name, kind: RecordType, mix_case: bool) -> Self {
        let [a, b, ..] = entropy.next_u64().to_ne_bytes();
        let mixed = mix_case.then(|| with_mixed_case(entropy, name)).flatten();
        Self {
            identifier: u16::from_ne_bytes([a, b]),
            mixed: mixed.is_some(),
            name: mixed.unwrap_or_else(|| name.clone()),
            kind,
        }
    }

    pub(super) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut message = Message::new(self.identifier, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.kind));
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD);
        message.set_edns(edns);
        message.to_vec().map_err(io::Error::other)
    }

    /// Reads a message that may be the answer.
    pub(super) fn read(&self, bytes: &[u8]) -> Outcome {
        let Ok(message) = Message::from_vec(bytes) else { return Outcome::Stray };
        let metadata = &message.metadata;
        let [query] = &message.queries[..] else { return Outcome::Stray };
        let same_name = if self.mixed { query.name.eq_case(&self.name) } else { query.name == self.name };
        if metadata.id != self.identifier
            || metadata.message_type != MessageType::Response
            || metadata.op_code != OpCode::Query
            || query.query_type != self.kind
            || query.query_class != DNSClass::IN
            || !same_name
        {
            return Outcome::Stray;
        }
        match metadata.response_code {
            _ if metadata.truncation => Outcome::Truncated,
            ResponseCode::NoError | ResponseCode::NXDomain => Outcome::Answer(self.collect(&message)),
            ResponseCode::ServFail => Outcome::Refused("server failure"),
            ResponseCode::Refused => Outcome::Refused("refused"),
            ResponseCode::FormErr => Outcome::Refused("format error"),
            _ => Outcome::Refused("an unexpected response code"),
        }
    }

    /// Follows the aliases within the answer (RFC 1034, 3.6.2).
    fn collect(&self, message: &Message) -> Answer {
        let mut name = &self.name;
        let mut lifetime = u32::MAX;
        for _ in 0..=MAX_ALIASES {
            let records = || {
                let ours = |record: &&hickory_proto::rr::Record| {
                    record.name == *name && record.dns_class == DNSClass::IN
                };
                message.answers.iter().filter(ours)
            };
            let mut addresses = Vec::new();
            for record in records().take(MAX_ADDRESSES) {
                let address = match (&record.data, self.kind) {
                    (RData::A(address), RecordType::A) => IpAddr::V4(address.0),
                    (RData::AAAA(address), RecordType::AAAA) => IpAddr::V6(address.0),
                    _ => continue,
                };
                lifetime = lifetime.min(record.ttl);
                addresses.push(address);
            }
            if !addresses.is_empty() {
                return Answer { addresses, lifetime: Duration::from_secs(lifetime.into()) };
            }
            let alias = records().find_map(|record| match &record.data {
                RData::CNAME(target) => Some((&target.0, record.ttl)),
                _ => None,
            });
            let Some((target, ttl)) = alias else { break };
            lifetime = lifetime.min(ttl);
            name = target;
        }
        Answer { addresses: Vec::new(), lifetime: negative_lifetime(message) }
    }
}

/// RFC 2308, 5: the smaller of the SOA record's TTL and its MINIMUM field.
fn negative_lifetime(message: &Message) -> Duration {
    let said = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(Duration::from_secs(record.ttl.min(soa.minimum).into())),
        _ => None,
    });
    said.unwrap_or(NEGATIVE_LIFETIME).min(LONGEST_NEGATIVE_LIFETIME)
}

fn with_mixed_case(entropy: &dyn Entropy, name: &Name) -> Option<Name> {
    let mut bits = 0;
    let mixed: String = name
        .to_ascii()
        .chars()
        .enumerate()
        .map(|(index, letter)| {
            if index % 64 == 0 {
                bits = entropy.next_u64();
            }
            if bits >> (index % 64) & 1 == 0 {
                letter.to_ascii_lowercase()
            } else {
                letter.to_ascii_uppercase()
            }
        })
        .collect();
    Name::from_ascii(mixed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::SeededEntropy;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, CNAME, SOA};
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn question() -> Question {
        Question::new(&SeededEntropy::new(1), &name("calendar.example."), RecordType::A, true)
    }

    fn answer(question: &Question, records: Vec<Record>) -> Message {
        let mut message = Message::response(question.identifier, OpCode::Query);
        message.add_query(Query::query(question.name.clone(), question.kind));
        message.answers = records;
        message
    }

    #[test]
    fn aliases_are_followed_within_the_answer() {
        let question = question();
        let records = vec![
            Record::from_rdata(name("host.example."), 50, RData::A(A::new(192, 0, 2, 2))),
            Record::from_rdata(name("calendar.example."), 90, RData::CNAME(CNAME(name("host.example.")))),
            Record::from_rdata(name("other.example."), 5, RData::A(A::new(192, 0, 2, 66))),
        ];
        let read = question.read(&answer(&question, records).to_vec().unwrap());
        let addresses = vec![IpAddr::from([192, 0, 2, 2])];
        assert_eq!(read, Outcome::Answer(Answer { addresses, lifetime: Duration::from_secs(50) }));
        let circle = vec![
            Record::from_rdata(name("calendar.example."), 90, RData::CNAME(CNAME(name("b.example.")))),
            Record::from_rdata(name("b.example."), 90, RData::CNAME(CNAME(name("calendar.example.")))),
        ];
        let read = question.read(&answer(&question, circle).to_vec().unwrap());
        assert_eq!(read, Outcome::Answer(Answer { addresses: vec![], lifetime: NEGATIVE_LIFETIME }));
    }

    #[test]
    fn what_does_not_answer_the_question_is_a_stray() {
        let question = question();
        let good = answer(&question, vec![]);
        assert!(matches!(question.read(&good.to_vec().unwrap()), Outcome::Answer(_)));
        let mut cases = vec![];
        let mut wrong = good.clone();
        wrong.metadata.id ^= 1;
        cases.push(wrong);
        let mut wrong = good.clone();
        wrong.queries[0].name = name("calendar.example.");
        cases.push(wrong);
        let mut wrong = good.clone();
        wrong.queries[0].query_type = RecordType::AAAA;
        cases.push(wrong);
        let mut wrong = good.clone();
        wrong.metadata.message_type = MessageType::Query;
        cases.push(wrong);
        let mut wrong = good.clone();
        wrong.queries.clear();
        cases.push(wrong);
        for wrong in cases {
            assert_eq!(question.read(&wrong.to_vec().unwrap()), Outcome::Stray, "{wrong:?}");
        }
    }

    #[test]
    fn nothing_is_remembered_as_long_as_the_zone_says() {
        let question = question();
        let mut message = answer(&question, vec![]);
        message.metadata.response_code = ResponseCode::NXDomain;
        let soa = SOA::new(name("ns.example."), name("admin.example."), 1, 2, 3, 4, 7);
        message.add_authority(Record::from_rdata(name("example."), 100, RData::SOA(soa)));
        let expected = Answer { addresses: vec![], lifetime: Duration::from_secs(7) };
        assert_eq!(question.read(&message.to_vec().unwrap()), Outcome::Answer(expected));
    }

    proptest! {
        #[test]
        fn no_message_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in any::<usize>(), bit in 0..8) {
            let question = question();
            question.read(&bytes);
            let records = vec![Record::from_rdata(name("calendar.example."), 5, RData::A(A::new(192, 0, 2, 2)))];
            let mut mutated = answer(&question, records).to_vec().unwrap();
            let length = mutated.len();
            mutated[at % length] ^= 1_u8 << bit;
            question.read(&mutated);
            question.read(&mutated[..at % length]);
        }
    }
}

//! What the store costs with 10,000 events: `cargo bench -p caldav --bench store`.
//!
//! Times are of the processor, so that other work on the machine does not count.

use std::time::Duration;

use caldav::calendar::{ComponentCondition, ComponentFilter, Filter, Preliminary, TimeRange, Zone, validate};
use caldav::repository::{Author, Change, CollectionProperties, Home, Snapshot, prepare};
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase};

const EVENTS: usize = 10_000;
/// How often what is short is done: the processor's time is counted in ticks.
const ROUNDS: u32 = 50;
const AUTHOR: Author<'static> = Author { name: "bench", email: "bench@example.org", now: 1_700_000_000 };

/// Time that this process has spent on a processor.
struct Instant(Duration);

impl Instant {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
        Self(Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap()))
    }

    fn elapsed(&self) -> Duration {
        Self::now().0 - self.0
    }
}

/// An event of about 1 KB; every twentieth recurs weekly.
fn event(number: usize) -> (String, Vec<u8>) {
    let uid = format!("{number:08}-8d1c-4c6e-9a50-1f3a5e7c9b2d");
    let day = 1 + number % 28;
    let month = 1 + number / 28 % 12;
    let year = 2005 + number / 336 % 25;
    let rule = if number.is_multiple_of(20) { "RRULE:FREQ=WEEKLY;BYDAY=MO,WE\r\n" } else { "" };
    let text = format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Bench//EN\r\nBEGIN:VTIMEZONE\r\nTZID:Europe/Berlin\r\n\
         BEGIN:DAYLIGHT\r\nTZOFFSETFROM:+0100\r\nTZOFFSETTO:+0200\r\nTZNAME:CEST\r\nDTSTART:19700329T020000\r\n\
         RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU\r\nEND:DAYLIGHT\r\nBEGIN:STANDARD\r\nTZOFFSETFROM:+0200\r\n\
         TZOFFSETTO:+0100\r\nTZNAME:CET\r\nDTSTART:19701025T030000\r\nRRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU\r\n\
         END:STANDARD\r\nEND:VTIMEZONE\r\nBEGIN:VEVENT\r\nUID:{uid}\r\nDTSTAMP:20240101T000000Z\r\n\
         DTSTART;TZID=Europe/Berlin:{year:04}{month:02}{day:02}T100000\r\n\
         DTEND;TZID=Europe/Berlin:{year:04}{month:02}{day:02}T110000\r\n{rule}SUMMARY:Meeting number {number}\r\n\
         LOCATION:Room {}\r\nDESCRIPTION:{}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
        number % 40,
        "Lorem ipsum dolor sit amet. ".repeat(9),
    );
    (format!("{uid}.ics"), text.into_bytes())
}

fn main() {
    let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
    let transaction = database.begin_write().unwrap();
    prepare(&transaction).unwrap();
    let mut change = Change::begin(&transaction, "ada").unwrap();
    change.create_collection(Home::Calendars, "work", &CollectionProperties::default()).unwrap();
    change.commit(&AUTHOR, "MKCALENDAR work").unwrap();
    transaction.commit().unwrap();

    let put = |from: usize, count: usize, batch: usize| {
        let mut inside = Duration::ZERO;
        let mut number = from;
        while number < from + count {
            let transaction = database.begin_write().unwrap();
            let began = Instant::now();
            for _ in 0..batch {
                let (name, bytes) = event(number);
                let summary = validate(&bytes).unwrap();
                let mut change = Change::begin(&transaction, "ada").unwrap();
                change.put(Home::Calendars, "work", &name, &bytes, &summary).unwrap();
                change.commit(&AUTHOR, "PUT work/event.ics").unwrap();
                number += 1;
            }
            transaction.commit().unwrap();
            inside += began.elapsed();
        }
        inside / u32::try_from(count).unwrap()
    };
    println!("fill, 100 a transaction:   {:?} a PUT", put(0, EVENTS, 100));
    println!("PUT, 16 a transaction:     {:?}", put(EVENTS, 1600, 16));
    println!("PUT, 1 a transaction:      {:?}", put(EVENTS + 1600, 400, 1));

    let (_, bytes) = event(20);
    let began = Instant::now();
    (0..10_000).for_each(|_| drop(validate(&bytes).unwrap()));
    println!("validate, {} bytes:       {:?}", bytes.len(), began.elapsed() / 10_000);

    let transaction = database.begin_read().unwrap();
    let began = Instant::now();
    for number in 0..10_000 {
        let snapshot = Snapshot::open(&transaction, "ada").unwrap();
        let work = snapshot.collection(Home::Calendars, "work").unwrap().unwrap();
        assert!(work.get(&event(number).0).unwrap().is_some());
    }
    println!("GET:                       {:?}", began.elapsed() / 10_000);

    let snapshot = Snapshot::open(&transaction, "ada").unwrap();
    let work = snapshot.collection(Home::Calendars, "work").unwrap().unwrap();
    let began = Instant::now();
    let listed =
        (0..ROUNDS).map(|_| work.resources().unwrap().map(Result::unwrap).count()).max().unwrap_or(0);
    println!("list {listed} entries:        {:?}", began.elapsed() / ROUNDS);

    let filter = Filter {
        calendar: ComponentFilter {
            name: "VCALENDAR".into(),
            condition: ComponentCondition::Defined {
                time_range: None,
                properties: vec![],
                components: vec![ComponentFilter {
                    name: "VEVENT".into(),
                    condition: ComponentCondition::Defined {
                        time_range: TimeRange::parse(Some("20240601T000000Z"), Some("20240701T000000Z")),
                        properties: vec![],
                        components: vec![],
                    },
                }],
            },
        },
    };
    let began = Instant::now();
    let (mut read, mut matched) = (0, 0);
    for entry in work.resources().unwrap() {
        let entry = entry.unwrap();
        if filter.preliminary(&entry.summary) == Preliminary::Look {
            read += 1;
            matched +=
                usize::from(work.with_bytes(&entry, |bytes| filter.matches(bytes, &Zone::Utc)).unwrap());
        }
    }
    println!("calendar-query of a month: {:?}, {read} read, {matched} matched", began.elapsed());

    let began = Instant::now();
    let names = (0..ROUNDS).map(|_| work.changes(None, usize::MAX).unwrap().changed.len()).max().unwrap_or(0);
    println!("first sync, {names} names:   {:?}", began.elapsed() / ROUNDS);
}

//! A crash at any moment of a run of real requests: what was answered is there, and nothing is there by half.
//!
//! `SKERRY_SEEDS` says how many runs are made and crashed; without it there is one.
#![allow(clippy::disallowed_types, reason = "tests run git and write an export to a folder")]

use core::future::Future;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use caldav::configuration::Configuration;
use caldav::repository::{self, Home, Snapshot, export, verify};
use caldav::service::Service;
use platform::device::{CrashDisk, Loss, ManualClock, MemoryDisk, SeededEntropy};
use platform::executor::{Executor, Handle};
use platform::host::SimulatedHost;
use platform::http::{Body, Peer, Request};
use platform::memory::MemoryUse;
use platform::observe::Metrics;
use platform::storage::{Integrity, OpenError, Storage, StorageOptions, check};

/// Of the password `password`, as cheap as argon2id can be.
const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
const USERS: [&str; 2] = ["alice", "bob"];
/// Programs that write at the same time: two of each user, each to a calendar of its own.
const WRITERS: u64 = 4;
/// Requests of each.
const REQUESTS: usize = 24;
/// Of the disk, in bytes.
const CAPACITY: u64 = 4 << 20;
/// Moments of each run at which it is crashed.
const CRASHES: usize = 60;
/// Of how many crashes one has its repositories read by git.
const EXPORTED: usize = 10;

/// A calendar as a client sees it: its name for people, and its resources.
type Calendar = Option<(Option<String>, BTreeMap<String, String>)>;

/// A request that was answered, and the calendar from then on.
struct Step {
    submitted: usize,
    answered: usize,
    after: Calendar,
}

struct Random(u64);

impl Random {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn simulate<T: 'static, F: Future<Output = T> + 'static>(main: impl FnOnce(Handle) -> F) -> T {
    let clock = Rc::new(ManualClock::new(Duration::from_secs(1_700_000_000)));
    let host = SimulatedHost::new(Rc::clone(&clock));
    let executor = Executor::new(clock);
    let main = main(executor.handle());
    executor.run(&host, main).expect("the test does not panic")
}

fn options() -> StorageOptions {
    StorageOptions::new("caldav", 4 << 20)
}

async fn serve(handle: &Handle, storage: &Storage) -> Rc<Service> {
    let mut configuration = Configuration::default();
    let users = USERS.map(|user| format!("[users.{user}]\npassword = \"{HASH}\"\n")).concat();
    configuration.read("caldav.toml", users.as_bytes()).expect("a configuration");
    let metrics = Metrics::of_image(handle, || MemoryUse { allocated: 1, limit: 2 });
    let entropy = SeededEntropy::new(7);
    let opened = Service::open(handle, storage.clone(), configuration, &metrics, &entropy);
    opened.await.expect("the service starts").0
}

fn user_of(writer: u64) -> &'static str {
    USERS[writer as usize % USERS.len()]
}

fn collection_of(writer: u64) -> String {
    format!("work{writer}")
}

fn event(uid: &str, version: usize, filling: usize) -> String {
    format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//EN\r\nBEGIN:VEVENT\r\nUID:{uid}\r\n\
         DTSTAMP:20240101T000000Z\r\nDTSTART:20240102T100000Z\r\nSEQUENCE:{version}\r\nDESCRIPTION:{}\r\n\
         END:VEVENT\r\nEND:VCALENDAR\r\n",
        "x".repeat(filling)
    )
}

fn proppatch(name: &str) -> String {
    format!(
        "<propertyupdate xmlns=\"DAV:\"><set><prop><displayname>{name}</displayname></prop></set></propertyupdate>"
    )
}

/// A request that fits the calendar: method, resource, body, what it is answered, and what the calendar is then.
fn next_request(
    random: &mut Random,
    writer: u64,
    number: usize,
    before: &Calendar,
) -> (&'static str, String, String, u16, Calendar) {
    let Some((name, resources)) = before.clone() else {
        return ("MKCALENDAR", String::new(), String::new(), 201, Some((None, BTreeMap::new())));
    };
    let file = format!("{}.ics", random.below(5));
    let mut then = resources.clone();
    match random.below(12) {
        0..7 => {
            let body = event(&format!("{writer}-{file}"), number, random.below(5000) as usize);
            let status = if then.insert(file.clone(), body.clone()).is_some() { 204 } else { 201 };
            ("PUT", file, body, status, Some((name, then)))
        }
        7..9 => {
            let status = if then.remove(&file).is_some() { 204 } else { 404 };
            ("DELETE", file, String::new(), status, Some((name, then)))
        }
        9..11 => {
            let name = format!("name {number}");
            ("PROPPATCH", String::new(), proppatch(&name), 207, Some((Some(name), then)))
        }
        _ => ("DELETE", String::new(), String::new(), 204, None),
    }
}

async fn write(handle: Handle, service: Rc<Service>, disk: CrashDisk, seed: u64, writer: u64) -> Vec<Step> {
    let user = user_of(writer);
    let authorization = format!("Basic {}", Base64::encode_string(format!("{user}:password").as_bytes()));
    let mut random = Random(seed * WRITERS + writer);
    let mut calendar = None;
    let mut steps = vec![Step { submitted: 0, answered: 0, after: None }];
    for number in 0..REQUESTS {
        handle.sleep(Duration::from_micros(random.below(8000))).await;
        let (method, file, body, status, after) = next_request(&mut random, writer, number, &calendar);
        let request = Request::builder()
            .method(method)
            .uri(format!("/calendars/{user}/{}/{file}", collection_of(writer)))
            .header("host", "dav.example.org")
            .header("authorization", &authorization)
            .header("content-type", if method == "PUT" { "text/calendar" } else { "application/xml" })
            .body(Body::from(Bytes::from(body)))
            .expect("a request");
        let submitted = disk.moment();
        let peer = Peer { address: "192.0.2.7:40000".parse().expect("an address"), encrypted: true };
        let answer = service.answer(request, peer).await;
        assert_eq!(answer.status(), status, "{method} {file}");
        steps.push(Step { submitted, answered: disk.moment(), after: after.clone() });
        calendar = after;
    }
    steps
}

/// A run of all writers on a disk that may be crashed at any moment of it, and the steps of each writer.
fn record(seed: u64) -> (CrashDisk, Vec<Vec<Step>>) {
    simulate(async move |handle| {
        let disk = MemoryDisk::new(CAPACITY);
        let disk = disk.with_latency(handle.clone(), Duration::from_micros(300), Duration::from_millis(3));
        let disk = CrashDisk::new(disk);
        let storage = Storage::open(&handle, Box::new(disk.clone()), &options()).await.expect("a good disk");
        let service = serve(&handle, &storage).await;
        let mut log = Vec::new();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                handle.spawn(write(handle.clone(), Rc::clone(&service), disk.clone(), seed, writer))
            })
            .collect();
        for writer in writers {
            log.push(writer.await.expect("a writer does not panic"));
        }
        (disk, log)
    })
}

/// What each writer may find after a crash at `moment`: what its last answered request left, or the one on its way.
fn possible(log: &[Vec<Step>], moment: usize) -> Vec<Vec<Calendar>> {
    let of_writer = |steps: &Vec<Step>| {
        let answered = steps.iter().rposition(|step| step.answered <= moment).unwrap_or(0);
        let submitted = steps.iter().rposition(|step| step.submitted <= moment).unwrap_or(0);
        steps[answered..=submitted.max(answered)].iter().map(|step| step.after.clone()).collect()
    };
    log.iter().map(of_writer).collect()
}

fn calendar<T: repository::Tables>(transaction: &T, writer: u64) -> Result<Calendar, repository::Error> {
    let snapshot = Snapshot::open(transaction, user_of(writer))?;
    let Some(collection) = snapshot.collection(Home::Calendars, &collection_of(writer))? else {
        return Ok(None);
    };
    let mut resources = BTreeMap::new();
    for entry in collection.resources()? {
        let entry = entry?;
        let bytes = collection.bytes(&entry)?;
        resources.insert(entry.name, String::from_utf8(bytes).expect("what was put is text"));
    }
    Ok(Some((collection.properties()?.displayname, resources)))
}

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Has git read a user's repository.
fn git_reads<T: repository::Tables>(
    transaction: &T,
    user: &str,
    name: &str,
) -> Result<(), repository::Error> {
    let folder =
        Folder(std::env::temp_dir().join(format!("skerry-crash-{}-{name}-{user}", std::process::id())));
    for needed in ["refs/heads", "objects"] {
        std::fs::create_dir_all(folder.0.join(needed)).expect("a temporary folder");
    }
    export::export::<_, repository::Error>(&Snapshot::open(transaction, user)?, |path, bytes| {
        let path = folder.0.join(path);
        std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a temporary folder");
        std::fs::write(path, bytes).expect("a temporary file");
        Ok(())
    })?;
    let git =
        Command::new("git").arg("--git-dir").arg(&folder.0).args(["fsck", "--strict", "--full"]).output();
    let output = git.expect("git is installed");
    assert!(output.status.success(), "{name}, {user}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Starts the service on the disk that a crash left. Returns the calendars of the writers.
fn restart(disk: MemoryDisk, name: String, git: bool) -> Vec<Calendar> {
    simulate(async move |handle| {
        match check(&handle, Box::new(disk.clone())).await {
            Ok(report) => assert!(report.is_sound(), "{name}:\n{report}"),
            Err(OpenError::Blank) => {}
            Err(error) => panic!("{name}: {error}"),
        }
        let storage =
            Storage::open(&handle, Box::new(disk.clone()), &options()).await.expect("a crashed disk");
        let service = serve(&handle, &storage).await;
        let found = storage.read(|transaction| {
            if git {
                USERS.iter().try_for_each(|user| git_reads(transaction, user, &name))?;
            }
            (0..WRITERS).map(|writer| calendar(transaction, writer)).collect::<Result<Vec<_>, _>>()
        });
        let found = found.expect("readable").unwrap_or_else(|error| panic!("{name}: {error}"));
        let wrong = storage.write::<_, repository::Error>(|transaction| Ok(verify(transaction))).await;
        assert_eq!(wrong.expect("it can be examined"), [""; 0], "{name}");
        drop(service);
        storage.close().await.expect("the disk works");
        let report = check(&handle, Box::new(disk)).await.expect("a storage");
        assert_eq!(report.integrity, Integrity::Sound, "{name}");
        found
    })
}

/// How many runs: `SKERRY_SEEDS`, or one.
fn seeds() -> u64 {
    std::env::var("SKERRY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1)
}

#[test]
fn a_crash_at_any_moment_loses_no_answered_request() {
    for seed in 0..seeds() {
        let (disk, log) = record(seed);
        assert!(disk.moment() > 200, "the run is worth crashing: {} events", disk.moment());
        let mut random = Random(seed);
        for crash in 0..CRASHES {
            // One in each stretch of the run.
            let (from, to) = (crash * disk.moment() / CRASHES, (crash + 1) * disk.moment() / CRASHES);
            let moment = from + random.below((to - from + 1) as u64) as usize;
            let loss = match crash % 4 {
                0 => Loss::None,
                1 => Loss::All,
                _ => Loss::Some(random.below(1 << 30)),
            };
            let name = format!("seed {seed} at {moment} {loss:?}");
            let found = restart(disk.crash(moment, loss), name.clone(), crash % EXPORTED == EXPORTED - 1);
            for (writer, (found, possible)) in found.iter().zip(possible(&log, moment)).enumerate() {
                assert!(
                    possible.contains(found),
                    "{name}: writer {writer} finds {found:?}, not {possible:?}"
                );
            }
        }
    }
}

#[test]
fn a_disk_that_forgets_is_noticed() {
    // The proof that the other test can fail: the disk of half a run does not hold all that was answered in it.
    let (disk, log) = record(0);
    let end = disk.moment();
    let found = restart(disk.crash(end / 2, Loss::None), "half".into(), false);
    assert!(found.iter().zip(possible(&log, end)).any(|(found, possible)| !possible.contains(found)));
    let found = restart(disk.crash(end, Loss::All), "whole".into(), true);
    assert!(found.iter().zip(possible(&log, end)).all(|(found, possible)| possible.contains(found)));
}

//! The service over a simulated disk, under a virtual clock.

use std::rc::Rc;

use platform::device::{ManualClock, MemoryDisk, SeededEntropy};
use platform::executor::Executor;
use platform::host::SimulatedHost;
use platform::memory::MemoryUse;
use platform::observe::Metrics;
use platform::storage::StorageOptions;

use super::*;

const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

/// Runs a test under a virtual clock.
fn simulate<F: Future<Output = ()> + 'static>(main: impl FnOnce(Handle) -> F) {
    let clock = Rc::new(ManualClock::new(Duration::from_secs(1_700_000_000)));
    let host = SimulatedHost::new(Rc::clone(&clock));
    let executor = Executor::new(clock);
    let main = main(executor.handle());
    executor.run(&host, main).expect("the test does not panic");
}

fn configuration(more: &str) -> Configuration {
    let mut configuration = Configuration::default();
    let users = format!("{more}\n[users.alice]\npassword = \"{HASH}\"\n");
    configuration.read("caldav.toml", users.as_bytes()).unwrap();
    configuration
}

async fn start(
    handle: &Handle,
    disk: MemoryDisk,
    configuration: Configuration,
) -> (Rc<Service>, Option<FirstUser>) {
    let options = StorageOptions::new("caldav", 16 << 20);
    let storage = Storage::open(handle, Box::new(disk), &options).await.unwrap();
    let metrics = Metrics::of_image(handle, || MemoryUse { allocated: 1, limit: 2 });
    Service::open(handle, storage, configuration, &metrics, &SeededEntropy::new(7)).await.unwrap()
}

fn authorization(user: &str, password: &str) -> String {
    let encoded =
        <base64ct::Base64 as base64ct::Encoding>::encode_string(format!("{user}:{password}").as_bytes());
    format!("Basic {encoded}")
}

fn request(method: &str, path: &str, authorization: &str, body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("host", "dav.example.org:8080");
    if !authorization.is_empty() {
        request = request.header("authorization", authorization);
    }
    request.body(Body::from(Bytes::from(body.to_owned()))).unwrap()
}

fn peer(encrypted: bool) -> Peer {
    Peer { address: "192.0.2.7:40000".parse().unwrap(), encrypted }
}

async fn send(service: &Service, method: &str, path: &str, authorization: &str, body: &str) -> u16 {
    service.answer(request(method, path, authorization, body), peer(true)).await.status().as_u16()
}

fn event(uid: &str, filling: usize) -> String {
    let filling = "x".repeat(filling);
    format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:{uid}\r\nDTSTAMP:20240101T000000Z\r\nDTSTART:20240102T100000Z\r\nDESCRIPTION:{filling}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
}

#[test]
fn a_first_start_makes_a_user_and_says_the_password_once() {
    simulate(|handle| async move {
        let disk = MemoryDisk::new(32 << 20);
        let (service, first) = start(&handle, disk.clone(), Configuration::default()).await;
        let first = first.unwrap();
        let line = first.to_string();
        assert!(line.starts_with("first start user=skerry password="), "{line}");
        let authorization = authorization("skerry", &first.password);
        assert_eq!(send(&service, "GET", "/calendars/skerry/default/", &authorization, "").await, 200);
        service.storage.close().await.unwrap();
        let (service, again) = start(&handle, disk, Configuration::default()).await;
        assert!(again.is_none());
        assert_eq!(send(&service, "GET", "/contacts/skerry/default/", &authorization, "").await, 200);
    });
}

#[test]
fn who_is_not_known_gets_a_challenge_and_nothing_else() {
    simulate(|handle| async move {
        let (service, first) = start(&handle, MemoryDisk::new(32 << 20), configuration("")).await;
        assert!(first.is_none());
        for wrong in ["", "Basic !", &authorization("alice", "wrong"), &authorization("nobody", "password")] {
            let answer =
                service.answer(request("PROPFIND", "/calendars/alice/", wrong, ""), peer(true)).await;
            assert_eq!(answer.status(), 401, "{wrong}");
            assert_eq!(answer.headers()["www-authenticate"], CHALLENGE);
        }
        assert_eq!(send(&service, "GET", "/healthz", "", "").await, 200);
        let asked = service.answer(request("OPTIONS", "/", "", ""), peer(true)).await;
        assert!(asked.headers()["dav"].to_str().unwrap().contains("calendar-access"));
        assert_eq!(send(&service, "OPTIONS", "/", &authorization("alice", "wrong"), "").await, 401);
        let answer = service.answer(request("PROPFIND", "/.well-known/carddav", "", ""), peer(true)).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["location"]),
            (307, &HeaderValue::from_static("/"))
        );
    });
}

#[test]
fn guessing_is_slowed_down() {
    simulate(|handle| async move {
        let (service, _) = start(&handle, MemoryDisk::new(32 << 20), configuration("")).await;
        let (right, wrong) = (authorization("alice", "password"), authorization("alice", "guess"));
        let mut guesses = 0;
        while send(&service, "GET", "/", &wrong, "").await == 401 {
            guesses += 1;
            assert!(guesses < 100);
        }
        let refused = service.answer(request("GET", "/", &right, ""), peer(true)).await;
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (429, &HeaderValue::from(1))
        );
        handle.sleep(Duration::from_secs(1)).await;
        assert_eq!(send(&service, "GET", "/", &right, "").await, 200);
    });
}

#[test]
fn without_tls_only_where_it_is_allowed() {
    simulate(|handle| async move {
        let disk = MemoryDisk::new(32 << 20);
        let (service, _) = start(&handle, disk.clone(), configuration("")).await;
        let right = authorization("alice", "password");
        let answer = service.answer(request("GET", "/calendars/?x", &right, ""), peer(false)).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
            (308, "https://dav.example.org/calendars/?x")
        );
        service.storage.close().await.unwrap();
        let (service, _) =
            start(&handle, disk.clone(), configuration("url = \"https://a.example:8443\"")).await;
        let answer = service.answer(request("GET", "/x", &right, ""), peer(false)).await;
        assert_eq!(answer.headers()["location"], "https://a.example:8443/x");
        service.storage.close().await.unwrap();
        let (service, _) = start(&handle, disk, configuration("plain = true")).await;
        assert_eq!(service.answer(request("GET", "/", &right, ""), peer(false)).await.status(), 200);
    });
}

#[test]
fn what_was_acknowledged_is_there_after_a_start() {
    simulate(|handle| async move {
        let disk = MemoryDisk::new(32 << 20);
        let (service, _) = start(&handle, disk.clone(), configuration("")).await;
        let right = authorization("alice", "password");
        let path = "/calendars/alice/default/1.ics";
        assert_eq!(send(&service, "PUT", path, &right, &event("1", 10)).await, 201);
        // As a crash leaves it: the old service never closes its storage.
        let after = MemoryDisk::with_content(disk.content());
        let (again, _) = start(&handle, after, configuration("")).await;
        let answer = again.answer(request("GET", path, &right, ""), peer(true)).await;
        let body = body::collect(answer.into_body(), 1 << 20).await.unwrap();
        assert_eq!(body, event("1", 10));
    });
}

#[test]
fn a_full_disk_refuses_serves_and_can_be_made_room_on() {
    simulate(|handle| async move {
        let (service, _) = start(&handle, MemoryDisk::new(4 << 20), configuration("")).await;
        let right = authorization("alice", "password");
        let path = |number: usize| format!("/calendars/alice/default/{number}.ics");
        let mut stored = 0;
        let refusal = loop {
            match send(&service, "PUT", &path(stored), &right, &event(&stored.to_string(), 60_000)).await {
                201 => stored += 1,
                refusal => break refusal,
            }
            assert!(stored < 1000);
        };
        assert_eq!(refusal, 507);
        assert!(stored > 5, "{stored}");
        for number in 0..stored {
            assert_eq!(send(&service, "GET", &path(number), &right, "").await, 200);
        }
        assert_eq!(send(&service, "DELETE", &path(0), &right, "").await, 204);
    });
}

#[test]
fn too_much_is_refused_before_it_is_read() {
    simulate(|handle| async move {
        let (service, _) =
            start(&handle, MemoryDisk::new(32 << 20), configuration("[limits]\nrequest-bytes = 20000")).await;
        let right = authorization("alice", "password");
        assert_eq!(
            send(&service, "PUT", "/calendars/alice/default/1.ics", &right, &event("1", 20_000)).await,
            413
        );
    });
}

#[test]
fn metrics_are_for_operators() {
    simulate(|handle| async move {
        let disk = MemoryDisk::new(32 << 20);
        let (service, _) = start(&handle, disk.clone(), configuration("")).await;
        assert_eq!(send(&service, "GET", "/metrics", "", "").await, 401);
        service.storage.close().await.unwrap();
        let (service, _) = start(&handle, disk, configuration("operators = [\"192.0.2.0/24\"]")).await;
        assert_eq!(send(&service, "GET", "/metrics", "", "").await, 200);
        send(&service, "GET", "/", &authorization("alice", "password"), "").await;
        let answer = service.answer(request("GET", "/metrics", "", ""), peer(true)).await;
        let numbers = body::collect(answer.into_body(), 1 << 20).await.unwrap();
        let numbers = core::str::from_utf8(&numbers).unwrap();
        for line in ["caldav_passwords_total{outcome=\"right\"} 1", "caldav_answers_total{class=\"2xx\"} 2"] {
            assert!(numbers.lines().any(|found| found == line), "{line} in {numbers}");
        }
        assert_eq!(send(&service, "GET", "/calendars/", "", "").await, 401);
    });
}

#[test]
fn a_replaced_configuration_decides_from_then_on() {
    simulate(|handle| async move {
        let (service, _) = start(&handle, MemoryDisk::new(32 << 20), configuration("")).await;
        let right = authorization("alice", "password");
        assert_eq!(send(&service, "GET", "/calendars/alice/default/", &right, "").await, 200);
        let checked = service.counts.right_passwords.get();

        let with_operators = configuration("operators = [\"192.0.2.0/24\"]");
        service.replace_configuration(with_operators, &SeededEntropy::new(8)).await.unwrap();
        assert_eq!(send(&service, "GET", "/metrics", "", "").await, 200);
        assert_eq!(send(&service, "GET", "/calendars/alice/default/", &right, "").await, 200);
        assert_eq!(service.counts.right_passwords.get(), checked, "who keeps the password is remembered");

        let mut without_alice = Configuration::default();
        let users = format!("[users.bob]\npassword = \"{HASH}\"\n");
        without_alice.read("caldav.toml", users.as_bytes()).unwrap();
        service.replace_configuration(without_alice, &SeededEntropy::new(9)).await.unwrap();
        assert_eq!(send(&service, "GET", "/calendars/alice/default/", &right, "").await, 401);
        assert_eq!(send(&service, "GET", "/metrics", "", "").await, 401);
        let bob = authorization("bob", "password");
        assert_eq!(send(&service, "GET", "/calendars/bob/default/", &bob, "").await, 200);
    });
}

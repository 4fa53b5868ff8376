//! HTTP/2, frame by frame (RFC 9113): requests, and what a hostile peer would try.

use super::*;

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const DATA: u8 = 0;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// RFC 9113, 7.
const ENHANCE_YOUR_CALM: u32 = 11;

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A GET, in HPACK's static table and one literal (RFC 7541, appendix A).
fn get(stream: u32, path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    let block = [&[0x82, 0x86, 0x04, length], path.as_bytes(), &[0x01, 1, b'a']].concat();
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block)
}

impl Client {
    async fn send_bytes(&mut self, bytes: &[u8]) {
        self.pipe.write_all(bytes).await.expect("the server reads");
    }

    /// The preface, with one setting.
    async fn begin(&mut self, setting: u16, value: u32) {
        let payload = [&setting.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let settings = frame(SETTINGS, 0, 0, &payload);
        self.send_bytes(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat()).await;
    }

    /// The next frame; `None` at the end.
    async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.pipe.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        self.pipe.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of a kind.
    async fn frame_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().await.expect("a frame before the end");
            if frame.kind == kind && (kind != SETTINGS || frame.flags & ACK == 0) {
                return frame;
            }
        }
    }
}

/// `SETTINGS_INITIAL_WINDOW_SIZE`.
const WINDOW: u16 = 4;

#[test]
fn streams_are_answered_as_they_come_ready() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, _task) = site.connect();
        client.begin(WINDOW, 65_535).await;
        client.send_bytes(&get(1, "/slow")).await;
        client.send_bytes(&get(3, "/quick")).await;
        let settings = client.frame_of(SETTINGS).await;
        assert!(settings.payload.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 100]), "100 streams");
        let first = client.frame_of(DATA).await;
        assert_eq!((first.stream, first.payload.as_slice()), (3, &b"GET /quick"[..]));
        let second = client.frame_of(DATA).await;
        assert_eq!((second.stream, second.payload.as_slice()), (1, &b"GET /slow"[..]));
        assert_eq!(handle.now().as_nanos() / 1_000_000_000, 5);
    });
}

#[test]
fn a_panic_costs_its_stream_alone() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, _task) = site.connect();
        client.begin(WINDOW, 65_535).await;
        client.send_bytes(&get(1, "/panic")).await;
        assert_eq!(client.frame_of(DATA).await.payload, b"internal error\n");
        client.send_bytes(&get(3, "/")).await;
        assert_eq!(client.frame_of(DATA).await.payload, b"GET /");
        assert_eq!(site.server.statistics().panics.get(), 1);
    });
}

#[test]
fn streams_opened_and_reset_at_once_end_the_connection() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, _task) = site.connect();
        client.begin(WINDOW, 65_535).await;
        let attack: Vec<u8> = (0..500u32)
            .flat_map(|n| [get(2 * n + 1, "/slow"), frame(RESET, 0, 2 * n + 1, &[0, 0, 0, 8])].concat())
            .collect();
        client.send_bytes(&attack).await;
        let goaway = client.frame_of(GOAWAY).await;
        assert_eq!(goaway.payload[4..8], ENHANCE_YOUR_CALM.to_be_bytes());
        assert!(site.server.statistics().requests.get() <= 100);
    });
}

#[test]
fn an_idle_connection_is_told_and_closed_and_pings_do_not_keep_it() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, task) = site.connect();
        client.begin(WINDOW, 65_535).await;
        client.send_bytes(&get(1, "/")).await;
        client.frame_of(DATA).await;
        for _ in 0..7 {
            handle.sleep(Duration::from_secs(10)).await;
            client.send_bytes(&frame(PING, 0, 0, &[7; 8])).await;
            assert_eq!(client.frame_of(PING).await.payload, [7; 8]);
        }
        client.frame_of(GOAWAY).await;
        assert_eq!(handle.now().as_nanos() / 1_000_000_000, 75);
        // The server asks by a PING whether that was heard (RFC 9113, 6.8); a client that is silent is closed all the same.
        drop(client);
        task.await.unwrap();
    });
}

#[test]
fn a_window_that_stays_shut_is_given_up() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, task) = site.connect();
        client.begin(WINDOW, 0).await;
        client.send_bytes(&get(1, "/large")).await;
        task.await.unwrap();
        assert_eq!(handle.now().as_nanos() / 1_000_000_000, 20);
        assert_eq!(site.server.statistics().slow_readers.get(), 1);
    });
}

#[test]
fn a_connection_without_a_request_is_closed() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, task) = site.connect();
        client.begin(WINDOW, 65_535).await;
        task.await.unwrap();
        assert_eq!(handle.now().as_nanos() / 1_000_000_000, 15);
    });
}

#[test]
fn shutdown_finishes_the_running_streams() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, task) = site.connect();
        client.begin(WINDOW, 65_535).await;
        client.send_bytes(&get(1, "/slow")).await;
        client.frame_of(SETTINGS).await;
        handle.sleep(Duration::from_secs(1)).await;
        let server = site.server.clone();
        let draining = handle.spawn(async move { server.drain().await });
        let goaway = client.frame_of(GOAWAY).await;
        assert_eq!(goaway.payload[4..8], [0; 4]);
        // The server's PING, to learn that the GOAWAY has been heard.
        let ping = client.frame_of(PING).await;
        client.send_bytes(&frame(PING, ACK, 0, &ping.payload)).await;
        assert_eq!(client.frame_of(DATA).await.payload, b"GET /slow");
        while client.frame().await.is_some() {}
        task.await.unwrap();
        draining.await.unwrap();
        // The answer came after five seconds; this client does not close its side, and is waited for by two more.
        assert_eq!(handle.now().as_nanos() / 1_000_000_000, 7);
    });
}

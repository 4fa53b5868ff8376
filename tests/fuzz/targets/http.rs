//! The bytes of an HTTP connection.
#![no_main]

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use libfuzzer_sys::fuzz_target;
use platform::device::{ManualClock, Pipe};
use platform::executor::Executor;
use platform::host::SimulatedHost;
use platform::http::{Body, Limits, Request, Response, Server, body};

fuzz_target!(|bytes: &[u8]| {
    let clock = Rc::new(ManualClock::default());
    let executor = Executor::new(clock.clone());
    let handle = executor.handle();
    let server = Server::with_http2(&handle, Limits::default(), |request: Request<Body>, _peer| async {
        match body::collect(request.into_body(), 10_000).await {
            Ok(content) => Response::new(Body::from(content)),
            Err(error) => error.response(),
        }
    });
    let bytes = bytes.to_vec();
    let main = {
        let handle = handle.clone();
        async move {
            let (ours, theirs) = Pipe::pair(4096);
            let peer = SocketAddr::from(([192, 0, 2, 1], 1024));
            handle.spawn(async move { server.serve_connection(theirs, peer, false).await });
            let (mut reader, mut writer) = ours.split();
            handle.spawn(async move {
                let _ = writer.write_all(&bytes).await;
                let _ = writer.close().await;
            });
            let mut answers = Vec::new();
            let _ = handle.timeout(Duration::from_secs(600), reader.read_to_end(&mut answers)).await;
        }
    };
    executor.run(&SimulatedHost::new(clock), main).expect("no panic");
    assert_eq!(handle.panics(), 0);
});

//! The server against clients in memory, on the simulated clock.

mod http1;
mod http2;
mod time;

use core::future::Future;
use core::time::Duration;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::device::{ManualClock, Pipe};
use crate::executor::{Executor, Handle, JoinHandle};
use crate::host::{Shutdown, SimulatedHost};

/// 2026-11-23T15:40:00Z.
const WALL: Duration = Duration::from_secs(1_795_448_400);

const CLIENT: &str = "192.0.2.7:50000";

/// Runs `main` in virtual time.
fn simulate<T: 'static, F: Future<Output = T> + 'static>(main: impl FnOnce(Handle) -> F) -> T {
    let clock = Rc::new(ManualClock::new(WALL));
    let executor = Executor::new(clock.clone());
    let main = main(executor.handle());
    executor.run(&SimulatedHost::new(clock), main).expect("the test does not panic")
}

/// Answers with the request's method, path and body; `/panic` panics, `/slow` takes five seconds.
async fn echo(handle: Handle, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    match head.uri.path() {
        "/panic" => panic!("for the test"),
        "/slow" => handle.sleep(Duration::from_secs(5)).await,
        "/ignore" => return text(StatusCode::OK, "ignored"),
        "/large" => return Response::new(Body::from(vec![b'x'; 1 << 20])),
        _ => {}
    }
    match body::collect(body, 1 << 20).await {
        Ok(bytes) if bytes.is_empty() => text(StatusCode::OK, format!("{} {}", head.method, head.uri.path())),
        Ok(bytes) => Response::new(Body::from(bytes)),
        Err(error) => error.response(),
    }
}

/// A server of echoes, and clients that connect to it.
struct Site<H> {
    handle: Handle,
    server: Server<H, Http2>,
}

fn site(handle: &Handle, limits: Limits) -> Site<impl Handler> {
    let inner = handle.clone();
    let server = Server::with_http2(handle, limits, move |request, _peer| echo(inner.clone(), request));
    Site { handle: handle.clone(), server }
}

impl<H: Handler> Site<H> {
    /// A new connection, and the task that serves it.
    fn connect(&self) -> (Client, JoinHandle<()>) {
        let (near, far) = Pipe::pair(64 * 1024);
        let server = self.server.clone();
        let address: SocketAddr = CLIENT.parse().unwrap();
        let task = self.handle.spawn(async move { server.serve_connection(far, address, false).await });
        (Client { pipe: near }, task)
    }
}

struct Client {
    pipe: Pipe,
}

impl Client {
    async fn send(&mut self, text: &str) {
        self.pipe.write_all(text.as_bytes()).await.expect("the server reads");
    }

    /// Reads one response: its head as text, and its body by Content-Length.
    async fn response(&mut self) -> (String, Bytes) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.pipe.read_exact(&mut byte).await.expect("a response");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.pipe.read_exact(&mut body).await.expect("a body");
        (head, body.into())
    }

    /// Everything up to the end of the stream.
    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.pipe.read_to_end(&mut rest).await.expect("the server closes in good order");
        String::from_utf8(rest).unwrap()
    }
}

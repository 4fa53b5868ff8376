//! What the benches put on a server, the same for ours and for the peers: an ordinary Linux program with threads and
//! the kernel's sockets.
//!
//! ```text
//! load put     HOST:PORT PATH USER:PASSWORD CLIENTS SECONDS     distinct events, as many as can be stored
//! load fill    HOST:PORT PATH USER:PASSWORD CLIENTS EVENTS      that many events
//! load get     HOST:PORT PATH USER:PASSWORD CLIENTS SECONDS EVENTS   random ones of them
//! load report  HOST:PORT PATH USER:PASSWORD CLIENTS SECONDS BODY-FILE   a REPORT, again and again
//! load pull    HOST:PORT BYTES                                  reads from one connection
//! load push    HOST:PORT BYTES                                  writes to one connection
//! load idle    HOST:PORT CONNECTIONS                            opens them, says so, holds them until its input ends
//! load chatter HOST:PORT CONNECTIONS SECONDS PID                64 bytes to and fro on random ones; PID is the server's
//! load serve   ADDRESS                                          the peer for pull and push: port 19 sends, port 9 reads
//! ```
//!
//! Each prints one line of `name=value` figures.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "runs on Linux, beside the image")]

mod bulk;
mod chatter;
mod dav;
mod http;

use std::process::ExitCode;

/// An error for whoever reads the bench's output.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["put", server, path, user, clients, seconds] => dav::put(server, path, user, clients, seconds),
        ["fill", server, path, user, clients, events] => dav::fill(server, path, user, clients, events),
        ["get", server, path, user, clients, seconds, events] => {
            dav::get(server, path, user, clients, seconds, events)
        }
        ["report", server, path, user, clients, seconds, body] => {
            dav::report(server, path, user, clients, seconds, body)
        }
        ["pull", server, bytes] => bulk::pull(server, bytes),
        ["push", server, bytes] => bulk::push(server, bytes),
        ["idle", server, connections] => bulk::idle(server, connections),
        ["chatter", server, connections, seconds, pid] => chatter::chatter(server, connections, seconds, pid),
        ["serve", address] => bulk::serve(address),
        _ => Err("usage: see the head of tests/bench/load/src/main.rs".into()),
    };
    match result {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

//! An HTTP server: hyper's HTTP/1.1 and HTTP/2 over the platform's streams.
//!
//! A [`Server`] is made of [`Limits`] and a [`Handler`]. It takes connections from a [`Listener`] (a TCP listener, or a TLS
//! listener around one) and gives each a task. Where a server speaks HTTP/2 ([`Server::with_http2`]), it is told from HTTP/1.1 by its preface, which a client that has agreed on
//! `h2` by ALPN sends first as well (RFC 9113, 3.4).
//!
//! hyper parses, frames and keeps the order; what is ours is time and memory. A connection has **one** timer, which is not
//! set anew for each request: it fires now and then, looks at the connection's state, and goes back to sleep or ends it.
//! A connection that has been idle for [`Limits::park_time`] gives back hyper's buffers and keeps only its stream.
//!
//! Reading: RFC 9110 (semantics), RFC 9112 (HTTP/1.1), RFC 9113 (HTTP/2).

mod admission;
pub mod body;
mod connection;
mod date;
mod limits;
mod listener;
mod progress;
mod server;
mod service;
mod state;
mod statistics;
mod stream;
mod versions;

pub use body::{Body, BodyError, text};
pub use limits::Limits;
pub use listener::Listener;
pub use server::Server;
pub use service::{Handler, Peer};
pub use statistics::{Count, Statistics};
pub use versions::{Http1, Http2, Versions};

pub use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
};

#[cfg(test)]
mod tests;

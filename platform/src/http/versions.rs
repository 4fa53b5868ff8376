//! Which versions of HTTP a server speaks. Its type says so: what a server does not speak is not in its image.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use hyper::server::conn::http2;

use super::Limits;
use super::connection::{Engine, http1_engine};
use super::service::{Handler, Service};
use super::stream::{Lent, Stream};
use crate::executor::Handle;

/// HTTP/1.1, and HTTP/1.0 where the client speaks no better.
#[derive(Clone, Copy, Debug)]
pub enum Http1 {}

/// HTTP/2 too, for clients that begin with its preface.
#[derive(Clone, Copy, Debug)]
pub enum Http2 {}

/// [`Http1`] or [`Http2`].
pub trait Versions: Engines {}

impl Versions for Http1 {}

impl Versions for Http2 {}

/// How a connection begins.
pub trait Engines: 'static {
    /// The engine for a client that has sent the preface of HTTP/2.
    #[expect(private_interfaces, reason = "nothing outside this module starts an engine")]
    fn after_preface<S, H>(stream: Stream<S>, service: Service<H>) -> Engine<S, H>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: Handler;
}

impl Engines for Http1 {
    /// hyper finds that this is no HTTP/1.1, and hangs up.
    #[expect(private_interfaces, reason = "nothing outside this module starts an engine")]
    fn after_preface<S, H>(stream: Stream<S>, service: Service<H>) -> Engine<S, H>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: Handler,
    {
        http1_engine(stream, service)
    }
}

impl Engines for Http2 {
    #[expect(private_interfaces, reason = "nothing outside this module starts an engine")]
    fn after_preface<S, H>(stream: Stream<S>, service: Service<H>) -> Engine<S, H>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: Handler,
    {
        let (stream, lent) = Lent::new(stream);
        let builder = builder(&service.shared.limits, &service.shared.handle);
        Engine::Http2 { connection: Box::pin(builder.serve_connection(lent, service)), stream }
    }
}

/// A connection that speaks HTTP/2.
pub(super) trait Http2Connection {
    /// Drives it as far as it goes. Ready when it is over.
    fn poll_connection(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<hyper::Result<()>>;

    /// Has it end when the running requests have.
    fn finish(self: Pin<&mut Self>);
}

impl<S, H> Http2Connection for http2::Connection<Lent<S>, Service<H>, Spawner>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    fn poll_connection(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.poll(context)
    }

    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

fn builder(limits: &Limits, handle: &Handle) -> http2::Builder<Spawner> {
    let mut builder = http2::Builder::new(Spawner(handle.clone()));
    builder
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_send_buf_size(limits.send_buffer)
        .max_pending_accept_reset_streams(limits.reset_streams)
        .max_local_error_reset_streams(limits.faulty_streams)
        .auto_date_header(false);
    builder
}

/// Runs the streams of an HTTP/2 connection as tasks.
#[derive(Clone)]
struct Spawner(Handle);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

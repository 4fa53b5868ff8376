//! One connection from its first byte to its last: which protocol, how long, and when to let go.

use core::cell::RefCell;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use futures_io::{AsyncRead, AsyncWrite};
use hyper::rt::Write as _;
use hyper::server::conn::http1;

use super::Limits;
use super::admission::Place;
use super::server::Shared;
use super::service::{Handler, Peer, Service};
use super::state::{ConnectionState, Wish};
use super::stream::Stream;
use super::versions::{Http2Connection, Versions};
use crate::device::Instant;
use crate::executor::Sleep;

/// What a client that speaks HTTP/2 sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes read and discarded after the last response (a client that has more to say is cut off).
const LINGER_BYTES: usize = 1 << 20;

/// The answer to a request whose head does not end (RFC 9110, 15.5.9).
const HEAD_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

type Http1<S, H> = http1::Connection<Stream<S>, Service<H>>;

/// Serves one connection. Completes when the stream is closed or given up.
pub(super) struct Connection<S, H: Handler, V> {
    engine: Engine<S, H>,
    shared: Rc<Shared<H>>,
    state: Rc<ConnectionState>,
    peer: Peer,
    /// The connection's one timer. It may be earlier than the next deadline, never later.
    timer: Sleep,
    started: Instant,
    /// Whether the protocol has been told that this is the end.
    finishing: bool,
    _place: Place,
    versions: PhantomData<fn() -> V>,
}

/// What a connection is doing.
pub(super) enum Engine<S, H: Handler> {
    /// No request yet, or none for a while: only the stream, and the first bytes if they do not yet tell the protocol.
    Parked {
        stream: Stream<S>,
        first: Vec<u8>,
    },
    /// Boxed, as they are large and most connections are parked.
    Http1(Box<Http1<S, H>>),
    Http2 {
        connection: Pin<Box<dyn Http2Connection>>,
        stream: Rc<RefCell<Stream<S>>>,
    },
    /// Saying the last word, closing, and waiting for the peer to do the same.
    Closing {
        stream: Stream<S>,
        last_word: &'static [u8],
        closed: bool,
        discarded: usize,
        until: Instant,
    },
    Over,
}

/// Why a connection is ended by its timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    Head,
    Idle,
    Write,
    Park,
    Age,
}

impl<S, H, V> Connection<S, H, V>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
    V: Versions,
{
    pub(super) fn new(
        shared: &Rc<Shared<H>>,
        state: Rc<ConnectionState>,
        stream: S,
        peer: Peer,
        place: Place,
    ) -> Self {
        let stream = Stream::new(stream, shared.scratch.clone(), Rc::clone(&state));
        let now = shared.handle.now();
        Self {
            engine: Engine::Parked { stream, first: Vec::new() },
            shared: Rc::clone(shared),
            state,
            peer,
            timer: shared.handle.sleep_until(now),
            started: now,
            finishing: false,
            _place: place,
            versions: PhantomData,
        }
    }

    /// Drives the connection as far as it goes. Ready when it is over.
    fn poll_engine(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.engine {
                Engine::Parked { stream, first } => {
                    let Ok(protocol) = ready!(poll_protocol(stream, first, context)) else {
                        self.shared.statistics.broken.increment();
                        return Poll::Ready(());
                    };
                    match protocol {
                        Some(protocol) => self.start(protocol),
                        None => self.close(b""),
                    }
                }
                Engine::Http1(connection) => {
                    let ended = ready!(Pin::new(&mut **connection).poll(context));
                    if ended.is_err() {
                        self.shared.statistics.broken.increment();
                    }
                    self.close(b"");
                }
                Engine::Http2 { connection, .. } => {
                    if ready!(connection.as_mut().poll_connection(context)).is_err() {
                        self.shared.statistics.broken.increment();
                    }
                    self.close(b"");
                }
                Engine::Closing { stream, last_word, closed, discarded, .. } => {
                    return poll_close(stream, last_word, closed, discarded, context).map(drop);
                }
                Engine::Over => return Poll::Ready(()),
            }
        }
    }

    /// Leaves the parking place for a protocol.
    fn start(&mut self, protocol: Protocol) {
        let Engine::Parked { mut stream, first } = core::mem::replace(&mut self.engine, Engine::Over) else {
            return;
        };
        stream.put_back(Bytes::from(first));
        let service =
            Service { shared: Rc::clone(&self.shared), state: Rc::clone(&self.state), peer: self.peer };
        self.engine = match protocol {
            Protocol::Http1 => http1_engine(stream, service),
            Protocol::Http2 => V::after_preface(stream, service),
        };
    }

    /// Gives back the buffers of an HTTP/1.1 connection that is idle.
    fn park(&mut self) {
        match core::mem::replace(&mut self.engine, Engine::Over) {
            Engine::Http1(connection) => {
                let parts = connection.into_parts();
                self.engine = Engine::Parked { stream: parts.io, first: parts.read_buf.to_vec() };
            }
            other => self.engine = other,
        }
    }

    /// Begins to close the stream in good order.
    fn close(&mut self, last_word: &'static [u8]) {
        let stream = match core::mem::replace(&mut self.engine, Engine::Over) {
            Engine::Parked { stream, .. } => stream,
            Engine::Http1(connection) => connection.into_parts().io,
            Engine::Http2 { connection, stream } => {
                drop(connection);
                let Some(stream) = Rc::into_inner(stream) else { return };
                stream.into_inner()
            }
            // What is closing is closing.
            other @ Engine::Closing { .. } => {
                self.engine = other;
                return;
            }
            Engine::Over => return,
        };
        let until = self.state.handle.now() + self.shared.limits.linger_time;
        self.engine = Engine::Closing { stream, last_word, closed: false, discarded: 0, until };
    }

    /// Does what the server wishes.
    fn obey(&mut self) -> Step {
        match self.state.wish() {
            Wish::Finish if !self.finishing => {}
            Wish::Serve | Wish::Finish => return Step::Wait,
            Wish::End => return Step::Over,
        }
        self.finishing = true;
        match &mut self.engine {
            Engine::Parked { .. } => self.close(b""),
            Engine::Http1(connection) => Pin::new(&mut **connection).graceful_shutdown(),
            Engine::Http2 { connection, .. } => connection.as_mut().finish(),
            Engine::Closing { .. } | Engine::Over => {}
        }
        Step::Again
    }

    /// The next moment at which something is to be done if nothing happens, and what.
    fn deadline(&self) -> (Instant, Expiry) {
        let (limits, state) = (&self.shared.limits, &self.state);
        if let Engine::Closing { until, .. } = &self.engine {
            return (*until, Expiry::Write);
        }
        let mut next = (self.started + limits.connection_time, Expiry::Age);
        if self.finishing {
            next.0 = Instant::from_nanos(u64::MAX);
        }
        let mut consider = |instant: Instant, expiry| {
            if instant < next.0 {
                next = (instant, expiry);
            }
        };
        if let Some(deadline) = state.write_deadline(limits) {
            consider(deadline, Expiry::Write);
        }
        if state.is_idle() {
            // On HTTP/2 what comes after the first request need not be a head: it may be a PING.
            let is_http2 = matches!(self.engine, Engine::Http2 { .. });
            match state.head_since().filter(|_| !is_http2 || state.requests() == 0) {
                Some(since) => consider(since + limits.head_time, Expiry::Head),
                None => {
                    consider(state.idle_since() + limits.idle_time, Expiry::Idle);
                    if matches!(self.engine, Engine::Http1(_)) {
                        consider(state.idle_since() + limits.park_time, Expiry::Park);
                    }
                }
            }
        }
        next
    }

    /// Looks at the clock when the timer says so, and acts.
    fn poll_timer(&mut self, context: &mut Context<'_>, waker_is_new: bool) -> Step {
        let (deadline, expiry) = self.deadline();
        if deadline < self.timer.deadline() {
            self.timer.reset(deadline);
        } else if !waker_is_new && self.state.handle.now() < self.timer.deadline() {
            // Set already, and not yet due: nothing has to be touched.
            return Step::Wait;
        }
        while Pin::new(&mut self.timer).poll(context).is_ready() {
            if self.state.handle.now() < deadline {
                self.timer.reset(deadline);
            } else {
                return self.expire(expiry);
            }
        }
        Step::Wait
    }

    fn expire(&mut self, expiry: Expiry) -> Step {
        let statistics = Rc::clone(&self.shared.statistics);
        match (expiry, &self.engine) {
            (Expiry::Park, _) => self.park(),
            (Expiry::Write, Engine::Closing { .. }) => return Step::Over,
            (Expiry::Write, _) => {
                statistics.slow_readers.increment();
                return Step::Over;
            }
            (Expiry::Head, engine) => {
                statistics.slow_heads.increment();
                match engine {
                    Engine::Http1(_) => self.close(HEAD_TIMEOUT),
                    Engine::Parked { first, .. } if !first.is_empty() => self.close(HEAD_TIMEOUT),
                    // Nothing was asked, so nothing is answered.
                    Engine::Parked { .. } => self.close(b""),
                    Engine::Http2 { .. } | Engine::Closing { .. } | Engine::Over => return Step::Over,
                }
            }
            (Expiry::Idle, Engine::Http2 { .. }) if self.finishing => return Step::Over,
            (Expiry::Idle, Engine::Http2 { .. }) => {
                statistics.idle.increment();
                self.state.set_wish(Wish::Finish);
            }
            (Expiry::Idle, _) => {
                statistics.idle.increment();
                self.close(b"");
            }
            (Expiry::Age, _) => self.state.set_wish(Wish::Finish),
        }
        Step::Again
    }
}

/// What comes after a step.
enum Step {
    /// Nothing is due.
    Wait,
    /// Something changed: drive the engine again.
    Again,
    /// The connection is over.
    Over,
}

impl<S, H, V> Future for Connection<S, H, V>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
    V: Versions,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let waker_is_new = this.state.set_waker(context.waker());
        loop {
            if this.poll_engine(context).is_ready() {
                return Poll::Ready(());
            }
            let step = match this.obey() {
                Step::Wait => this.poll_timer(context, waker_is_new),
                step => step,
            };
            match step {
                Step::Wait => return Poll::Pending,
                Step::Again => {}
                Step::Over => return Poll::Ready(()),
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

/// Reads until the first bytes tell the protocol. `None` if the peer ends before.
fn poll_protocol<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut Stream<S>,
    first: &mut Vec<u8>,
    context: &mut Context<'_>,
) -> Poll<io::Result<Option<Protocol>>> {
    loop {
        let common = first.iter().zip(PREFACE).take_while(|(byte, expected)| byte == expected).count();
        if common == PREFACE.len() {
            return Poll::Ready(Ok(Some(Protocol::Http2)));
        }
        if common < first.len() {
            return Poll::Ready(Ok(Some(Protocol::Http1)));
        }
        let append = |bytes: &[u8]| {
            first.extend_from_slice(bytes);
            bytes.len()
        };
        if ready!(stream.poll_with(context, usize::MAX, append))? == 0 {
            return Poll::Ready(Ok(None));
        }
    }
}

/// Writes the last word, closes our direction, and discards what still comes until the peer closes its own.
fn poll_close<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut Stream<S>,
    last_word: &mut &'static [u8],
    closed: &mut bool,
    discarded: &mut usize,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !last_word.is_empty() {
        match ready!(Pin::new(&mut *stream).poll_write(context, last_word))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            length => *last_word = &last_word[length..],
        }
    }
    if !*closed {
        ready!(stream.poll_close_stream(context))?;
        *closed = true;
    }
    while !stream.has_ended() && *discarded < LINGER_BYTES {
        *discarded += ready!(stream.poll_with(context, usize::MAX, <[u8]>::len))?;
    }
    Poll::Ready(Ok(()))
}

/// Begins to speak HTTP/1.1.
pub(super) fn http1_engine<S, H>(stream: Stream<S>, service: Service<H>) -> Engine<S, H>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    let builder = http1_builder(&service.shared.limits);
    Engine::Http1(Box::new(builder.serve_connection(stream, service)))
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(limits.head_bytes)
        .max_headers(limits.header_fields)
        .header_read_timeout(None)
        .auto_date_header(false);
    builder
}

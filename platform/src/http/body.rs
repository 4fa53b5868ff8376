//! Bodies of requests and responses, with the limits that hold while they are read.

use core::cell::Cell;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::Limits;
use super::progress::Progress;
use crate::executor::{Handle, Sleep};

/// The body of a request or a response.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(Box<Limited>),
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError>>>),
}

impl Body {
    /// A body without bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// A body whose frames come from `stream`, as the peer takes them.
    #[must_use]
    pub fn stream(stream: impl http_body::Body<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Self(Kind::Stream(Box::pin(stream)))
    }

    /// The body that a peer sends, held to the limits. What is not read of it goes to `unread`.
    pub(super) fn incoming(incoming: Incoming, limits: &Limits, handle: &Handle, unread: &Unread) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self(Kind::Incoming(Box::new(Limited {
            incoming: Some(incoming),
            unread: Rc::clone(unread),
            limit: limits.body_bytes,
            left: limits.body_bytes,
            progress: Progress::new(limits),
            sleep: None,
            handle: handle.clone(),
        })))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self(Kind::Full(bytes)) }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = core::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Incoming(limited) => limited.poll_frame(context),
            Kind::Stream(stream) => stream.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Incoming(limited) => limited.incoming.as_ref().is_none_or(Incoming::is_end_stream),
            Kind::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Incoming(limited) => {
                limited.incoming.as_ref().map_or_else(SizeHint::new, Incoming::size_hint)
            }
            Kind::Stream(stream) => stream.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Empty => f.write_str("Body::empty"),
            Kind::Full(bytes) => write!(f, "Body of {} bytes", bytes.len()),
            Kind::Incoming(_) => f.write_str("Body from the peer"),
            Kind::Stream(_) => f.write_str("Body from a stream"),
        }
    }
}

/// Where a request's body is kept that its handler did not read to the end, until the answer is out. Dropped before, it
/// would end an HTTP/2 stream as cancelled, and the peer would never see the answer (RFC 9113, 8.1).
pub(super) type Unread = Rc<Cell<Option<Incoming>>>;

/// A request's body. Too many bytes, or too few in the time, are an error.
struct Limited {
    /// Present until it is dropped.
    incoming: Option<Incoming>,
    unread: Unread,
    limit: u64,
    left: u64,
    progress: Progress,
    /// Set while the handler waits for the peer.
    sleep: Option<Sleep>,
    handle: Handle,
}

impl Limited {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(incoming).poll_frame(context) else {
            ready!(self.poll_deadline(context));
            return Poll::Ready(Some(Err(BodyError::TooSlow)));
        };
        self.sleep = None;
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Poll::Ready(Some(Err(BodyError::Broken(error.to_string())))),
        };
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.progress.advance(length, || self.handle.now());
        match self.left.checked_sub(length as u64) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Some(Err(BodyError::TooLarge { limit: self.limit }))),
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Ready when the peer has been too slow.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.sleep.is_none() {
            self.progress.wait(self.handle.now());
            self.sleep = self.progress.deadline().map(|deadline| self.handle.sleep_until(deadline));
        }
        self.sleep.as_mut().map_or(Poll::Pending, |sleep| Pin::new(sleep).poll(context))
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.unread.set(self.incoming.take());
    }
}

/// Reads a whole body into memory, if it is no longer than `limit` bytes. A body in one piece is not copied.
///
/// # Errors
/// [`BodyError`]; [`BodyError::response`] makes the answer to the peer.
pub async fn collect(body: Body, limit: u64) -> Result<Bytes, BodyError> {
    if body.size_hint().lower() > limit {
        return Err(BodyError::TooLarge { limit });
    }
    let mut body = core::pin::pin!(body);
    let mut next = async || core::future::poll_fn(|context| body.as_mut().poll_frame(context)).await;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = next().await {
        let Ok(data) = frame?.into_data() else { continue };
        if (first.len() + rest.len() + data.len()) as u64 > limit {
            return Err(BodyError::TooLarge { limit });
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.unsplit(rest);
    Ok(whole.freeze())
}

/// Why a body could not be read, or not be made.
#[derive(Debug)]
pub enum BodyError {
    /// Peer: the body is longer than is allowed.
    TooLarge {
        /// What is allowed, in bytes.
        limit: u64,
    },
    /// Peer: the body came too slowly ([`Limits::progress_time`]).
    TooSlow,
    /// Peer: the connection broke, or the body's framing is not HTTP.
    Broken(String),
    /// Caller: the handler could not make the rest of the response.
    Handler(Box<dyn std::error::Error + Send + Sync>),
}

impl BodyError {
    /// The answer to the peer: 413, 408, 400 or 500. The connection is closed after it: the rest of the body is unread.
    #[must_use]
    pub fn response(&self) -> Response<Body> {
        let status = match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
            Self::Handler(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        text(status, format!("{self}\n"))
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "the body is longer than {limit} bytes"),
            Self::TooSlow => f.write_str("the body came too slowly"),
            Self::Broken(reason) => write!(f, "the body could not be read: {reason}"),
            Self::Handler(reason) => write!(f, "the response could not be made: {reason}"),
        }
    }
}

impl std::error::Error for BodyError {}

/// A response of plain text.
#[must_use]
pub fn text(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

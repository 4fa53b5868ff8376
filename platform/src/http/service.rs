//! From hyper's request to the handler, and from its answer to hyper's response.

use core::convert::Infallible;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::body::{Body, BodyError, Unread, text};
use super::server::Shared;
use super::state::{ConnectionState, Wish};

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where from.
    pub address: SocketAddr,
    /// Whether it came over TLS.
    pub encrypted: bool,
}

/// Answers requests. Any `Fn(Request<Body>, Peer) -> impl Future<Output = Response<Body>>` is one.
pub trait Handler: 'static {
    /// The answer to come.
    type Answer: Future<Output = Response<Body>> + 'static;

    /// Starts to answer. If this or the future panics, the peer gets 500 and the panic is counted.
    fn handle(&self, request: Request<Body>, peer: Peer) -> Self::Answer;
}

impl<F, A> Handler for F
where
    F: Fn(Request<Body>, Peer) -> A + 'static,
    A: Future<Output = Response<Body>> + 'static,
{
    type Answer = A;

    fn handle(&self, request: Request<Body>, peer: Peer) -> A {
        self(request, peer)
    }
}

/// A handler on one connection.
pub(super) struct Service<H> {
    pub(super) shared: Rc<Shared<H>>,
    pub(super) state: Rc<ConnectionState>,
    pub(super) peer: Peer,
}

impl<H: Handler> hyper::service::Service<Request<Incoming>> for Service<H> {
    type Response = Response<Outgoing>;
    type Error = Infallible;
    type Future = Respond<H>;

    fn call(&self, request: Request<Incoming>) -> Respond<H> {
        let limits = &self.shared.limits;
        self.shared.statistics.requests.increment();
        let last = self.state.request_begins() >= limits.requests_per_connection;
        if last {
            self.state.set_wish(Wish::Finish);
        }
        let active = Active(Rc::clone(&self.state));
        let version = request.version();
        let unread = Unread::default();
        let too_large = request.body().size_hint().lower() > limits.body_bytes;
        let answer = if too_large {
            unread.set(Some(request.into_body()));
            Stage::Ready { response: Some(BodyError::TooLarge { limit: limits.body_bytes }.response()) }
        } else {
            let request = request.map(|body| Body::incoming(body, limits, &self.state.handle, &unread));
            match catch_unwind(AssertUnwindSafe(|| self.shared.handler.handle(request, self.peer))) {
                Ok(answer) => Stage::Running { answer },
                Err(_) => Stage::Ready { response: Some(self.shared.panicked()) },
            }
        };
        Respond { answer, active: Some(active), shared: Rc::clone(&self.shared), version, unread }
    }
}

/// Counts a request as running for as long as it lives.
struct Active(Rc<ConnectionState>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.request_ends();
    }
}

pin_project_lite::pin_project! {
    #[project = StageProjection]
    enum Stage<A> {
        Running { #[pin] answer: A },
        Ready { response: Option<Response<Body>> },
        Over,
    }
}

pin_project_lite::pin_project! {
    /// The answer to one request.
    pub(super) struct Respond<H: Handler> {
        #[pin]
        answer: Stage<H::Answer>,
        active: Option<Active>,
        shared: Rc<Shared<H>>,
        version: Version,
        unread: Unread,
    }
}

impl<H: Handler> Future for Respond<H> {
    type Output = Result<Response<Outgoing>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let response = match this.answer.as_mut().project() {
            StageProjection::Running { answer } => {
                match catch_unwind(AssertUnwindSafe(|| answer.poll(context))) {
                    Ok(Poll::Pending) => return Poll::Pending,
                    Ok(Poll::Ready(response)) => response,
                    Err(_) => {
                        // What a panic left half done may panic again as it is dropped.
                        let _ = catch_unwind(AssertUnwindSafe(|| this.answer.set(Stage::Over)));
                        this.shared.panicked()
                    }
                }
            }
            StageProjection::Ready { response } => response.take().unwrap_or_default(),
            // hyper does not poll again what has answered.
            StageProjection::Over => return Poll::Pending,
        };
        let Some(active) = this.active.take() else { return Poll::Pending };
        let mut response = response;
        this.shared.statistics.response(response.status());
        if let Some(date) = this.shared.date.value(active.0.handle.wall()) {
            response.headers_mut().entry(header::DATE).or_insert(date);
        }
        if active.0.wish() != Wish::Serve && *this.version < Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response.map(|body| Outgoing::new(body, active, this.unread.take()))))
    }
}

impl<H> Shared<H> {
    fn panicked(&self) -> Response<Body> {
        self.statistics.panics.increment();
        text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
    }
}

/// A response's body on its way out. While it lives its request counts as running.
pub(super) struct Outgoing {
    body: Body,
    active: Active,
    /// Whether the last poll found nothing to send yet.
    waits: bool,
    /// What the handler left of the request's body: dropped after the answer.
    _unread: Option<Incoming>,
}

impl Outgoing {
    fn new(body: Body, active: Active, unread: Option<Incoming>) -> Self {
        active.0.response_begins();
        Self { body, active, waits: false, _unread: unread }
    }

    fn set_waits(&mut self, waits: bool) {
        if waits != self.waits {
            self.waits = waits;
            self.active.0.response_waits(waits);
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.body).poll_frame(context)))
            .unwrap_or_else(|_| {
                self.active.0.statistics.panics.increment();
                Poll::Ready(Some(Err(BodyError::Handler("the handler panicked".into()))))
            });
        self.set_waits(polled.is_pending());
        self.active.0.response_moves();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.set_waits(false);
        self.active.0.response_ends();
    }
}

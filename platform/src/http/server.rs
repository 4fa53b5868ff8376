//! The server: it accepts, admits, and at shutdown lets the running requests finish.

use core::future::{Future, poll_fn};
use core::marker::PhantomData;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::net::SocketAddr;
use std::rc::Rc;

use futures_io::{AsyncRead, AsyncWrite};

use super::admission::{Admission, Place};
use super::connection::Connection;
use super::date::Date;
use super::service::{Handler, Peer};
use super::state::{ConnectionState, Wish};
use super::stream::Scratch;
use super::versions::{Http1, Http2, Versions};
use super::{Limits, Listener, Statistics};
use crate::executor::Handle;
use crate::host::Shutdown;

/// How often, at shutdown, the server looks whether the last connection has gone.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// How long to wait after an accept that failed: it failed for want of something, which may come back.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves HTTP, in the versions `V`. Clones share limits, counts and handler, so one server may serve several listeners.
pub struct Server<H, V = Http1> {
    shared: Rc<Shared<H>>,
    versions: PhantomData<fn() -> V>,
}

impl<H, V> Clone for Server<H, V> {
    fn clone(&self) -> Self {
        Self { shared: Rc::clone(&self.shared), versions: PhantomData }
    }
}

pub(super) struct Shared<H> {
    pub(super) handle: Handle,
    pub(super) limits: Limits,
    pub(super) handler: H,
    pub(super) statistics: Rc<Statistics>,
    pub(super) date: Date,
    pub(super) scratch: Scratch,
    admission: Rc<Admission>,
}

impl<H: Handler> Server<H> {
    /// A server of HTTP/1.1, whose connections run as tasks of `handle`'s executor.
    #[must_use]
    pub fn new(handle: &Handle, limits: Limits, handler: H) -> Self {
        Self::of(handle, limits, handler)
    }
}

impl<H: Handler> Server<H, Http2> {
    /// A server of HTTP/2 and HTTP/1.1, whose connections run as tasks of `handle`'s executor.
    #[must_use]
    pub fn with_http2(handle: &Handle, limits: Limits, handler: H) -> Self {
        Self::of(handle, limits, handler)
    }
}

impl<H: Handler, V: Versions> Server<H, V> {
    fn of(handle: &Handle, limits: Limits, handler: H) -> Self {
        Self {
            shared: Rc::new(Shared {
                handle: handle.clone(),
                limits,
                handler,
                statistics: Rc::default(),
                date: Date::default(),
                scratch: Scratch::new(),
                admission: Rc::default(),
            }),
            versions: PhantomData,
        }
    }

    /// What this server counts.
    #[must_use]
    pub fn statistics(&self) -> &Rc<Statistics> {
        &self.shared.statistics
    }

    /// Serves the connections of `listener` until `shutdown` is requested; then takes no more, and returns when the running
    /// requests have finished, or [`Limits::drain_time`] has passed.
    pub async fn serve(&self, mut listener: impl Listener, shutdown: &Shutdown) {
        let encrypted = listener.encrypted();
        let handle = &self.shared.handle;
        while let Some(accepted) = until(shutdown, listener.accept()).await {
            match accepted {
                Ok((stream, address)) => self.spawn_connection(stream, Peer { address, encrypted }),
                Err(error) => {
                    log::warn!("accepting connections: {error}");
                    handle.sleep(ACCEPT_RETRY).await;
                }
            }
        }
        drop(listener);
        self.drain().await;
    }

    /// Serves one connection to its end, in the caller's task. Returns at once if there are too many.
    pub async fn serve_connection<S>(&self, stream: S, address: SocketAddr, encrypted: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        if let Some((state, place)) = self.admit(address) {
            Connection::<S, H, V>::new(&self.shared, state, stream, Peer { address, encrypted }, place).await;
        }
    }

    /// Lets every connection finish its running requests and end, within [`Limits::drain_time`].
    pub async fn drain(&self) {
        let (handle, admission) = (&self.shared.handle, &self.shared.admission);
        let deadline = handle.now() + self.shared.limits.drain_time;
        while admission.wish(Wish::Finish) > 0 && handle.now() < deadline {
            handle.sleep(DRAIN_LOOK).await;
        }
        while admission.wish(Wish::End) > 0 {
            handle.yield_now().await;
        }
    }

    fn spawn_connection<S>(&self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        if let Some((state, place)) = self.admit(peer.address) {
            let connection = Connection::<S, H, V>::new(&self.shared, state, stream, peer, place);
            self.shared.handle.spawn(connection);
        }
    }

    fn admit(&self, address: SocketAddr) -> Option<(Rc<ConnectionState>, Place)> {
        let Shared { handle, limits, statistics, admission, .. } = &*self.shared;
        let state = ConnectionState::new(handle, limits, statistics);
        let place = admission.admit(limits, address.ip(), &state);
        match &place {
            Some(_) => statistics.accepted.increment(),
            None => statistics.refused.increment(),
        }
        Some((state, place?))
    }
}

/// What `future` gives, or `None` once shutdown is requested.
async fn until<T>(shutdown: &Shutdown, future: impl Future<Output = T>) -> Option<T> {
    let (mut requested, mut future) = (pin!(shutdown.requested()), pin!(future));
    poll_fn(|context| match requested.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(context).map(Some),
    })
    .await
}

//! The service: the protocol over the platform's HTTP and storage.

mod first_user;
mod held;
mod metrics;

use core::cell::RefCell;
use core::fmt;
use core::future::Future;
use core::time::Duration;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::request::Parts;
use http::uri::Authority;
use platform::device::Entropy;
use platform::executor::Handle;
use platform::http::header::{AUTHORIZATION, HOST, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use platform::http::{Body, HeaderValue, Method, Peer, Request, Response, StatusCode, body, text};
use platform::net::Cidr;
use platform::observe::{Endpoints, Metrics};
use platform::storage::{Storage, StorageError, WriteError};

use crate::configuration::Configuration;
use crate::dav::{self, Call, Dav, Session};
use crate::repository;
use crate::users::{Credentials, Gate, Step, Users};

pub use first_user::FirstUser;
use held::Held;
use metrics::{Counts, count};

/// How many requests may wait for their password to be checked. Each check takes some tens of milliseconds, so the last
/// in the queue waits for a few seconds.
const MAX_WAITING_CHECKS: usize = 64;

/// How much of a body is read and thrown away when the answer does not depend on it. Some clients take an answer that
/// comes before they have sent theirs for a broken connection.
const MAX_DISCARDED: u64 = 64 * 1024;

/// What an unauthenticated request gets. RFC 7617, section 2.1: credentials are UTF-8.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"Skerry\", charset=\"UTF-8\"");

/// Answers the requests of calendar and contacts programs.
pub struct Service {
    handle: Handle,
    storage: Storage,
    users: RefCell<Users>,
    /// What the operator decided; a request holds on to what it began with.
    decided: RefCell<Rc<Decided>>,
    checks: Gate,
    endpoints: Endpoints,
    counts: Rc<Counts>,
    held: Held,
    /// Who is known to have a calendar and an address book.
    set_up: RefCell<BTreeSet<Rc<str>>>,
}

/// What an operator decides besides users and certificate.
struct Decided {
    dav: Dav,
    plain: bool,
    url: Option<String>,
    operators: Vec<Cidr>,
}

impl Decided {
    fn by(configuration: Configuration) -> Self {
        let Configuration { plain, url, operators, limits, users: _ } = configuration;
        Self { dav: Dav::new(limits), plain, url, operators }
    }
}

/// Why the service could not start.
#[derive(Debug)]
pub enum StartError {
    /// Device or configuration: the storage refused.
    Storage(StorageError),
    /// Device: what is stored does not hold together.
    Repository(repository::Error),
    /// There is not enough memory to make the first user's password.
    OutOfMemory,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::Repository(error) => error.fmt(f),
            Self::OutOfMemory => {
                f.write_str("not enough memory to make a password: give the image more (--memory)")
            }
        }
    }
}

impl std::error::Error for StartError {}

impl From<WriteError<repository::Error>> for StartError {
    fn from(error: WriteError<repository::Error>) -> Self {
        match error {
            WriteError::Rejected(error) => Self::Repository(error),
            WriteError::Storage(error) => Self::Storage(error),
        }
    }
}

impl Service {
    /// Prepares the storage, and tells `metrics` of it. Where no user is configured there is one all the same ([`FirstUser`]); it comes back with
    /// its password when it was made now, to be shown once.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn open(
        handle: &Handle,
        storage: Storage,
        mut configuration: Configuration,
        metrics: &Metrics,
        entropy: &dyn Entropy,
    ) -> Result<(Rc<Self>, Option<FirstUser>), StartError> {
        storage.write(repository::prepare).await?;
        let shown = require_user(&mut configuration, &storage, entropy).await?;
        let counts = Rc::<Counts>::default();
        metrics::register(metrics, Rc::clone(&counts), storage.clone());
        let endpoints = Endpoints::new(metrics.clone());
        let checked = storage.clone();
        endpoints.add_check("storage", move || checked.read(|_| ()).map_err(|error| error.to_string()));
        let service = Self {
            handle: handle.clone(),
            storage,
            users: RefCell::new(Users::new(core::mem::take(&mut configuration.users), entropy)),
            decided: RefCell::new(Rc::new(Decided::by(configuration))),
            checks: Gate::new(MAX_WAITING_CHECKS),
            endpoints,
            counts,
            held: Held::default(),
            set_up: RefCell::default(),
        };
        Ok((Rc::new(service), shown))
    }

    /// Puts a configuration in the place of the one before, for every request from now on. A user whose password stays
    /// need not be checked anew; who is no longer in it is let in no longer. Returns the first user, as [`Service::open`].
    ///
    /// # Errors
    ///
    /// See [`StartError`]; then everything stays as it was.
    pub async fn replace_configuration(
        &self,
        mut configuration: Configuration,
        entropy: &dyn Entropy,
    ) -> Result<Option<FirstUser>, StartError> {
        let shown = require_user(&mut configuration, &self.storage, entropy).await?;
        self.users.borrow_mut().replace(core::mem::take(&mut configuration.users));
        *self.decided.borrow_mut() = Rc::new(Decided::by(configuration));
        Ok(shown)
    }

    /// The service as the platform's HTTP server takes it.
    pub fn handler(
        self: Rc<Self>,
    ) -> impl Fn(Request<Body>, Peer) -> core::pin::Pin<Box<dyn Future<Output = Response<Body>>>> + 'static
    {
        move |request, peer| {
            let service = Rc::clone(&self);
            Box::pin(async move { service.answer(request, peer).await })
        }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Body>, peer: Peer) -> Response<Body> {
        let response = self.respond(request, peer).await;
        self.counts.answered(response.status().as_u16());
        response
    }

    async fn respond(&self, request: Request<Body>, peer: Peer) -> Response<Body> {
        let decided = Rc::clone(&self.decided.borrow());
        let (parts, body) = request.into_parts();
        let session = match self.admit(&decided, &parts, peer).await {
            Ok(session) => session,
            Err(answer) => {
                // Whether it could be read or not: the answer is the same.
                let _ = body::collect(body, MAX_DISCARDED).await;
                return answer;
            }
        };
        // The body is read only once it is known who sends it.
        let limit = decided.dav.limits().request_bytes;
        let body = match body::collect(body, u64::try_from(limit).unwrap_or(u64::MAX)).await {
            Ok(body) => body,
            Err(error) => return error.response(),
        };
        if let Err(refusal) = self.set_up(&session).await {
            return refusal;
        }
        match decided.dav.accept(session, Request::from_parts(parts, body)) {
            Ok(call) => self.run(call, decided.dav.limits()).await,
            Err(response) => (*response).map(Body::from),
        }
    }

    /// Finds out whose request it is, or answers what needs no user.
    async fn admit(&self, decided: &Decided, request: &Parts, peer: Peer) -> Result<Session, Response<Body>> {
        let path = request.uri.path();
        let operator = || {
            let address = peer.address.ip().to_canonical();
            decided.operators.iter().any(|network| network.contains(address))
        };
        if (path == "/healthz" || operator())
            && let Some(answer) = self.endpoints.answer(&request.method, path)
        {
            return Err(answer);
        }
        if let Some(redirect) = dav::well_known(request.uri.path()) {
            return Err(redirect.map(Body::from));
        }
        if !peer.encrypted && !decided.plain {
            return Err(to_tls(decided.url.as_deref(), request));
        }
        // What a server can do is no secret, and who looks for one asks this first. With credentials it is a question
        // about them, too.
        if request.method == Method::OPTIONS && !request.headers.contains_key(AUTHORIZATION) {
            return Err(dav::options(request.uri.path()).map(Body::from));
        }
        self.log_in(request, peer.address.ip()).await
    }

    async fn run(&self, call: Call, limits: &dav::Limits) -> Response<Body> {
        if !call.writes() {
            // Slow readers of large answers must not fill the memory: as much as one answer may have is held for all
            // of them, and then who asks waits.
            if self.held.bytes() > limits.response_bytes {
                return later(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(1));
            }
            return match self.storage.read(|transaction| call.read(transaction)) {
                Ok(Ok(response)) => response.map(|body| Body::from(self.held.hold(body))),
                Ok(Err(error)) => failed(&error),
                Err(error) => failed(&error),
            };
        }
        let frees = call.frees();
        let write = move |transaction: &redb::WriteTransaction| call.write(transaction);
        let written = if frees { self.storage.reclaim(write) } else { self.storage.write(write) };
        match written.await {
            Ok(response) => response.map(Body::from),
            Err(WriteError::Rejected(error)) => failed(&error),
            Err(WriteError::Storage(error @ StorageError::Full { .. })) => {
                log::warn!("{error}");
                status(StatusCode::INSUFFICIENT_STORAGE)
            }
            Err(WriteError::Storage(error)) => failed(&error),
        }
    }

    /// Makes a new user's first collections.
    async fn set_up(&self, session: &Session) -> Result<(), Response<Body>> {
        if self.set_up.borrow().contains(&session.user) {
            return Ok(());
        }
        let known = self.storage.read(|transaction| dav::is_set_up(transaction, &session.user));
        match known {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                let owner = session.clone();
                let made = self.storage.write(move |transaction| dav::set_up(transaction, &owner)).await;
                // A full disk still serves what is on it.
                if let Err(error) = made {
                    log::warn!("making the first collections of {}: {error}", session.user);
                    return Ok(());
                }
            }
            Ok(Err(error)) => return Err(failed(&error)),
            Err(error) => return Err(failed(&error)),
        }
        self.set_up.borrow_mut().insert(Rc::clone(&session.user));
        Ok(())
    }

    async fn log_in(&self, request: &Parts, address: IpAddr) -> Result<Session, Response<Body>> {
        let header = request.headers.get(AUTHORIZATION);
        let credentials = header.and_then(|value| Credentials::from_header(value.as_bytes()));
        let user = self.check(credentials.ok_or_else(challenge)?, address).await?;
        let profile = self.users.borrow().get(&user).cloned().ok_or_else(challenge)?;
        Ok(Session { user, profile, now: self.handle.wall() })
    }

    /// Whom credentials belong to.
    async fn check(&self, credentials: Credentials, address: IpAddr) -> Result<Rc<str>, Response<Body>> {
        let credentials = match self.begin(credentials, address) {
            Step::Granted(user) => return Ok(user),
            Step::Verify(verification) => verification.into_credentials(),
            Step::Later(wait) => return Err(self.slow_down(wait)),
        };
        let Some(turn) = self.checks.enter() else {
            return Err(later(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(1)));
        };
        let pass = turn.await;
        // Meanwhile another connection of the same client may have been let in, or one of a guesser been refused.
        let verification = match self.begin(credentials, address) {
            Step::Granted(user) => return Ok(user),
            Step::Verify(verification) => verification,
            Step::Later(wait) => return Err(self.slow_down(wait)),
        };
        let Ok(right) = verification.run() else {
            log::warn!("not enough memory to check a password");
            return Err(later(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(1)));
        };
        drop(pass);
        count(if right { &self.counts.right_passwords } else { &self.counts.wrong_passwords });
        let granted = self.users.borrow_mut().finish(&verification, right, self.handle.now());
        granted.ok_or_else(|| {
            log::info!("wrong name or password from {address}");
            challenge()
        })
    }

    fn slow_down(&self, wait: Duration) -> Response<Body> {
        count(&self.counts.slowed_down);
        later(StatusCode::TOO_MANY_REQUESTS, wait)
    }

    fn begin(&self, credentials: Credentials, address: IpAddr) -> Step {
        self.users.borrow().begin(credentials, address, self.handle.now())
    }
}

/// Sends a client that came without TLS to where there is TLS, before it says a password.
fn to_tls(url: Option<&str>, request: &Parts) -> Response<Body> {
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
    let target = match url {
        Some(url) => Some(format!("{url}{path}")),
        None => {
            let host = request.headers.get(HOST).and_then(|host| host.to_str().ok());
            host.or_else(|| request.uri.authority().map(Authority::as_str))
                .map(|host| format!("https://{}{path}", without_port(host)))
        }
    };
    let Some(target) = target.and_then(|target| HeaderValue::from_str(&target).ok()) else {
        return text(StatusCode::BAD_REQUEST, Bytes::from_static(b"come over HTTPS\n"));
    };
    let mut response = text(StatusCode::PERMANENT_REDIRECT, Bytes::from_static(b"come over HTTPS\n"));
    response.headers_mut().insert(LOCATION, target);
    response
}

/// Sees to it that there is a user. Returns the first one if it was made now.
async fn require_user(
    configuration: &mut Configuration,
    storage: &Storage,
    entropy: &dyn Entropy,
) -> Result<Option<FirstUser>, StartError> {
    if !configuration.users.is_empty() {
        return Ok(None);
    }
    let (name, user, made) = first_user::find_or_make(storage, entropy).await?;
    configuration.users.insert(name, user);
    Ok(made)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn challenge() -> Response<Body> {
    let mut response = text(StatusCode::UNAUTHORIZED, Bytes::from_static(b"name and password, please\n"));
    response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
    response
}

fn later(status: StatusCode, wait: Duration) -> Response<Body> {
    let mut response = text(status, Bytes::from_static(b"later, please\n"));
    // Whole seconds, and not too early.
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn failed(error: &dyn fmt::Display) -> Response<Body> {
    log::error!("{error}");
    dav::fault().map(Body::from)
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;

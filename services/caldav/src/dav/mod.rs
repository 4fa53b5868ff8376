//! The protocol: WebDAV (RFC 4918) classes 1 and 3, CalDAV (RFC 4791), CardDAV (RFC 6352), collection synchronisation
//! (RFC 6578), extended MKCOL (RFC 5689), the reading half of access control (RFC 3744), and the extensions that clients
//! rely on.
//!
//! Nothing here knows a socket or waits. A request is first read by itself ([`Dav::accept`]): its path, its body and the
//! bytes it wants to store are checked without the store. What comes out is a [`Call`], which is then run inside a
//! transaction: [`Call::read`] in any, [`Call::write`] in one that writes. A call is not used up by running, so a
//! transaction that was given up can be run again.

mod delete;
mod error;
mod get;
mod limits;
mod make;
mod multistatus;
mod options;
mod path;
mod precondition;
mod properties;
mod propfind;
mod proppatch;
mod put;
mod report;
mod session;
mod setup;
mod transfer;
mod tree;
mod xml;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use redb::WriteTransaction;

use crate::repository::{self, Tables};
use error::{Failure, Refusal};
pub use limits::Limits;
pub use options::{options, well_known};
use path::{Path, PathError};
use properties::Viewer;
pub use session::Session;
pub use setup::{is_set_up, set_up};

/// The protocol with its limits.
#[derive(Debug, Clone, Default)]
pub struct Dav {
    limits: Limits,
}

/// A request that was read and is ready for the store.
#[derive(Debug)]
pub struct Call {
    request: Envelope,
    operation: Operation,
}

/// What all operations need of a request.
#[derive(Debug)]
struct Envelope {
    session: Session,
    limits: Limits,
    headers: HeaderMap,
    path: Path,
    head: bool,
}

/// What a request asks to be done.
#[derive(Debug)]
enum Operation {
    Get,
    Propfind(propfind::Propfind),
    Report(report::Report),
    Put(put::Put),
    Delete,
    Transfer(transfer::Transfer),
    Make(make::Make),
    Proppatch(proppatch::Proppatch),
}

impl Dav {
    /// The protocol with these limits.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// The limits, for whoever reads bodies.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Reads a request of an authenticated user.
    ///
    /// # Errors
    ///
    /// The answer, when there is one already: the request is wrong by itself, or needs no store.
    pub fn accept(&self, session: Session, request: Request<Bytes>) -> Result<Call, Box<Response<Bytes>>> {
        let (parts, body) = request.into_parts();
        if let Some(redirect) = well_known(parts.uri.path()) {
            return Err(Box::new(redirect));
        }
        if parts.method == Method::OPTIONS {
            return Err(Box::new(options(parts.uri.path())));
        }
        let path = match Path::parse(parts.uri.path()) {
            Ok(path) => path,
            Err(PathError::Malformed) => {
                return Err(Failure::status(StatusCode::BAD_REQUEST)
                    .because("a path that nothing has")
                    .into_response()
                    .into());
            }
            // RFC 4918, sections 9.3.1 and 9.7.1: what is to be made has no parent here.
            Err(PathError::Unknown) if matches!(parts.method.as_str(), "PUT" | "MKCOL" | "MKCALENDAR") => {
                return Err(Failure::status(StatusCode::CONFLICT).into_response().into());
            }
            Err(PathError::Unknown) => {
                return Err(Failure::status(StatusCode::NOT_FOUND).into_response().into());
            }
        };
        // Who may not see a path does not learn whether it is there.
        if path.user().is_some_and(|user| user != &*session.user) {
            return Err(Failure::forbidden("D:need-privileges").into_response().into());
        }
        if body.len() > self.limits.request_bytes {
            return Err(Failure::status(StatusCode::PAYLOAD_TOO_LARGE).into_response().into());
        }
        let head = parts.method == Method::HEAD;
        let request = Envelope { session, limits: self.limits, headers: parts.headers, path, head };
        match Operation::read(&parts.method, &request, &body) {
            Ok(operation) => Ok(Call { request, operation }),
            Err(failure) => Err(failure.into_response().into()),
        }
    }
}

impl Operation {
    fn read(method: &Method, request: &Envelope, body: &Bytes) -> Result<Self, Failure> {
        match method.as_str() {
            "GET" | "HEAD" => Ok(Self::Get),
            "PUT" => put::Put::read(request, body).map(Self::Put),
            "DELETE" => delete::check(request).map(|()| Self::Delete),
            "COPY" => transfer::Transfer::read(request, false).map(Self::Transfer),
            "MOVE" => transfer::Transfer::read(request, true).map(Self::Transfer),
            "PROPFIND" => propfind::Propfind::read(request, body).map(Self::Propfind),
            "PROPPATCH" => proppatch::Proppatch::read(request, body).map(Self::Proppatch),
            "MKCALENDAR" => make::Make::read_mkcalendar(request, body).map(Self::Make),
            "MKCOL" => make::Make::read_mkcol(request, body).map(Self::Make),
            "REPORT" => report::Report::read(request, body).map(Self::Report),
            // RFC 9110, section 15.5.6: known, and not here. Locks are class 2, which is not offered.
            "POST" | "LOCK" | "UNLOCK" | "ACL" | "PATCH" => {
                Err(Failure::status(StatusCode::METHOD_NOT_ALLOWED))
            }
            _ => Err(Failure::status(StatusCode::NOT_IMPLEMENTED)),
        }
    }
}

impl Call {
    /// Whether the call changes anything, and so needs [`Call::write`].
    #[must_use]
    pub const fn writes(&self) -> bool {
        match self.operation {
            Operation::Get | Operation::Propfind(_) | Operation::Report(_) => false,
            Operation::Put(_)
            | Operation::Delete
            | Operation::Transfer(_)
            | Operation::Make(_)
            | Operation::Proppatch(_) => true,
        }
    }

    /// Whether the call makes room in the storage.
    #[must_use]
    pub const fn frees(&self) -> bool {
        matches!(self.operation, Operation::Delete)
    }

    /// Answers a call that does not write.
    ///
    /// # Errors
    ///
    /// The store failed: it is to be logged, and the client gets [`fault`].
    pub fn read<T: Tables>(&self, transaction: &T) -> Result<Response<Bytes>, repository::Error> {
        let request = &self.request;
        let answer = match &self.operation {
            Operation::Get => get::get(request, transaction),
            Operation::Propfind(propfind) => propfind.run(request, transaction),
            Operation::Report(report) => report.run(request, transaction),
            _ => return Err(repository::Error::Misuse("a call that writes was run as one that reads")),
        };
        let mut response = finish(answer)?;
        if request.head {
            let length = HeaderValue::from(response.body().len());
            response.headers_mut().insert(CONTENT_LENGTH, length);
            *response.body_mut() = Bytes::new();
        }
        Ok(response)
    }

    /// Carries out a call, with its preconditions checked in the same transaction. A refusal of the peer's has changed
    /// nothing. Running it again in another transaction gives what that transaction's state asks for.
    ///
    /// # Errors
    ///
    /// The store failed: the transaction must be aborted, and the client gets [`fault`].
    pub fn write(&self, transaction: &WriteTransaction) -> Result<Response<Bytes>, repository::Error> {
        let request = &self.request;
        finish(match &self.operation {
            Operation::Put(put) => put.run(request, transaction),
            Operation::Delete => delete::run(request, transaction),
            Operation::Transfer(transfer) => transfer.run(request, transaction),
            Operation::Make(make) => make.run(request, transaction),
            Operation::Proppatch(proppatch) => proppatch.run(request, transaction),
            Operation::Get | Operation::Propfind(_) | Operation::Report(_) => return self.read(transaction),
        })
    }
}

/// What a client gets when the store failed: nothing that it did.
#[must_use]
pub fn fault() -> Response<Bytes> {
    Failure::status(StatusCode::INTERNAL_SERVER_ERROR).because("the storage failed").into_response()
}

fn finish(answer: Result<Response<Bytes>, Refusal>) -> Result<Response<Bytes>, repository::Error> {
    match answer {
        Ok(response) => Ok(response),
        Err(Refusal::Peer(failure)) => Ok(failure.into_response()),
        Err(Refusal::Fault(error)) => Err(error),
    }
}

impl Envelope {
    const fn viewer(&self) -> Viewer<'_> {
        Viewer { session: &self.session, limits: &self.limits }
    }

    /// Whether the client prefers short answers (RFC 7240 and RFC 8144).
    fn prefers_minimal(&self) -> bool {
        self.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok()).any(|value| {
            value.split([',', ';']).any(|preference| preference.trim().eq_ignore_ascii_case("return=minimal"))
        })
    }

    /// The `Depth` header (RFC 4918, section 10.2); `None` without one.
    fn depth(&self) -> Result<Option<Depth>, Failure> {
        let Some(value) = self.headers.get("depth") else { return Ok(None) };
        match value.as_bytes().trim_ascii() {
            b"0" => Ok(Some(Depth::Zero)),
            b"1" => Ok(Some(Depth::One)),
            value if value.eq_ignore_ascii_case(b"infinity") => Ok(Some(Depth::Infinity)),
            _ => Err(Failure::status(StatusCode::BAD_REQUEST).because("Depth is 0, 1 or infinity")),
        }
    }
}

/// How far below a resource a request reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Zero,
    One,
    Infinity,
}

#[cfg(test)]
mod tests;

//! Refusals: a status, and where the RFCs name one, the precondition that was violated (RFC 4918, section 16).

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use super::xml::{Writer, XmlError};
use crate::repository;

/// The media type of every XML answer.
pub(crate) const XML_TYPE: HeaderValue = HeaderValue::from_static("application/xml; charset=utf-8");

/// A request that was refused.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// The status of the answer.
    pub(crate) status: StatusCode,
    condition: Option<&'static str>,
    href: Option<String>,
    reason: Cow<'static, str>,
}

impl Failure {
    /// A bare status.
    pub(crate) const fn status(status: StatusCode) -> Self {
        Self { status, condition: None, href: None, reason: Cow::Borrowed("") }
    }

    /// 403 with a precondition that the request can never meet; `condition` with the prefix of the writer, as in
    /// `C:valid-calendar-data`.
    pub(crate) const fn forbidden(condition: &'static str) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            condition: Some(condition),
            href: None,
            reason: Cow::Borrowed(""),
        }
    }

    /// The same with another status.
    pub(crate) const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with the resource that is in the way; `href` is percent-encoded.
    pub(crate) fn at(mut self, href: String) -> Self {
        self.href = Some(href);
        self
    }

    /// The same with an explanation for people.
    pub(crate) fn because(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Writes `<D:error>` with the precondition, if one is named.
    pub(crate) fn write_error(&self, writer: &mut Writer) {
        if let Some(condition) = self.condition {
            writer.open("D:error");
            self.write_condition(condition, writer);
            writer.close("D:error");
        }
    }

    /// The answer to the client.
    pub(crate) fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = self.status;
        if let Some(condition) = self.condition {
            let mut writer = Writer::document("error", 512);
            self.write_condition(condition, &mut writer);
            if !self.reason.is_empty() {
                writer.element("D:responsedescription", &self.reason);
            }
            response.headers_mut().insert(CONTENT_TYPE, XML_TYPE);
            *response.body_mut() = writer.finish("error").into();
        } else if !self.reason.is_empty() {
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            *response.body_mut() = format!("{}\n", self.reason).into();
        }
        response
    }

    fn write_condition(&self, condition: &str, writer: &mut Writer) {
        match &self.href {
            Some(href) => {
                writer.open(condition);
                writer.href(href);
                writer.close(condition);
            }
            None => writer.empty_tag(condition),
        }
    }
}

impl From<XmlError> for Failure {
    fn from(error: XmlError) -> Self {
        Self::status(StatusCode::BAD_REQUEST).because(error.to_string())
    }
}

/// Why a request was not carried out, by who is at fault.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The peer asked for what cannot be.
    Peer(Failure),
    /// The store failed.
    Fault(repository::Error),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Peer(failure)
    }
}

impl From<repository::Error> for Refusal {
    fn from(error: repository::Error) -> Self {
        use repository::Error;
        let failure = match &error {
            Error::Name(_) => Failure::status(StatusCode::FORBIDDEN),
            // RFC 4918, section 9.7.1: the parent of what is to be made is missing.
            Error::NoCollection => Failure::status(StatusCode::CONFLICT),
            Error::NoResource => Failure::status(StatusCode::NOT_FOUND),
            Error::CollectionExists => {
                Failure::forbidden("D:resource-must-be-null").with_status(StatusCode::METHOD_NOT_ALLOWED)
            }
            Error::UidConflict(_) => Failure::status(StatusCode::CONFLICT),
            Error::UnsupportedComponent => Failure::forbidden("C:supported-calendar-component"),
            Error::TooLarge | Error::TooManyCollections => Failure::status(StatusCode::INSUFFICIENT_STORAGE),
            Error::UnknownToken => Failure::forbidden("D:valid-sync-token"),
            Error::Misuse(_) | Error::Corrupt(_) | Error::Storage(_) => return Self::Fault(error),
        };
        Self::Peer(failure.because(error.to_string()))
    }
}

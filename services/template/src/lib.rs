#![forbid(unsafe_code)]
//! What the service does, without any of how it is reached: a request in, an answer out. So it is tested without a network,
//! and so it would be simulated or fuzzed.

use platform::http::{Body, HeaderValue, Method, Response, StatusCode, header, text};
use serde::Deserialize;

/// `template.toml` in the configuration bundle.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Configuration {
    /// What `/` answers, without the end of its line.
    pub greeting: String,
}

impl Default for Configuration {
    fn default() -> Self {
        Self { greeting: "hello from skerry".to_owned() }
    }
}

/// Answers a request.
#[must_use]
pub fn answer(configuration: &Configuration, method: &Method, path: &str) -> Response<Body> {
    match path {
        "/" | "/healthz" if method != Method::GET && method != Method::HEAD => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        "/" => text(StatusCode::OK, format!("{}\n", configuration.greeting)),
        "/healthz" => text(StatusCode::OK, "ok\n"),
        _ => text(StatusCode::NOT_FOUND, "there is nothing here\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &Method, path: &str) -> u16 {
        answer(&Configuration::default(), method, path).status().as_u16()
    }

    #[test]
    fn greets_at_the_root_alone() {
        assert_eq!(status(&Method::GET, "/"), 200);
        assert_eq!(status(&Method::HEAD, "/"), 200);
        assert_eq!(status(&Method::POST, "/"), 405);
        assert_eq!(status(&Method::GET, "/elsewhere"), 404);
        assert_eq!(status(&Method::GET, "/healthz"), 200);
    }

    #[test]
    fn the_greeting_is_the_configurations() {
        let configuration = Configuration { greeting: "good day".to_owned() };
        let response = answer(&configuration, &Method::GET, "/");
        assert_eq!(format!("{:?}", response.body()), "Body of 9 bytes");
    }
}

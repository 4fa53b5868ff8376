//! `/healthz`, `/metrics` and `/events`, for a service to put where it likes: on a port for operators, or before its own
//! paths. They tell of the inside, so they do not belong before strangers.

use core::cell::RefCell;
use core::fmt::Write;
use std::rc::Rc;

use super::{Metrics, recent_events};
use crate::http::{Body, HeaderValue, Method, Response, StatusCode, header, text};

/// OpenMetrics 1.0, section 4.
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

type Check = Box<dyn Fn() -> Result<(), String>>;

/// Answers an operator's questions. Clones share metrics and checks.
#[derive(Clone)]
pub struct Endpoints {
    metrics: Metrics,
    checks: Rc<RefCell<Vec<(&'static str, Check)>>>,
}

impl Endpoints {
    /// Endpoints that show `metrics`, and are healthy.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, checks: Rc::default() }
    }

    /// Asks `check` for `/healthz`. It answers at once, or with what is wrong.
    pub fn add_check(&self, name: &'static str, check: impl Fn() -> Result<(), String> + 'static) {
        self.checks.borrow_mut().push((name, Box::new(check)));
    }

    /// The answer, if `path` is one of the endpoints'.
    #[must_use]
    pub fn answer(&self, method: &Method, path: &str) -> Option<Response<Body>> {
        let answer: fn(&Self) -> Response<Body> = match path {
            "/healthz" => Self::health,
            "/metrics" => Self::metrics,
            "/events" => Self::events,
            _ => return None,
        };
        if method != Method::GET && method != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(response);
        }
        let mut response = answer(self);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }

    fn health(&self) -> Response<Body> {
        let mut wrong = String::new();
        for (name, check) in &*self.checks.borrow() {
            if let Err(reason) = check() {
                let _ = writeln!(wrong, "{name}: {reason}");
            }
        }
        match wrong.as_str() {
            "" => text(StatusCode::OK, "ok\n"),
            _ => text(StatusCode::SERVICE_UNAVAILABLE, wrong),
        }
    }

    fn metrics(&self) -> Response<Body> {
        let mut response = text(StatusCode::OK, self.metrics.text());
        response.headers_mut().insert(header::CONTENT_TYPE, OPENMETRICS);
        response
    }

    fn events(&self) -> Response<Body> {
        text(StatusCode::OK, recent_events().lines().collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Clock, ManualClock};
    use crate::executor::Executor;
    use crate::http::body::collect;
    use crate::memory::MemoryUse;
    use crate::observe::Sample;
    use core::time::Duration;
    use futures_util::FutureExt;

    fn body(response: Response<Body>) -> String {
        let bytes = collect(response.into_body(), 1 << 20).now_or_never().unwrap().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn metrics_are_open_metrics() {
        let clock = Rc::new(ManualClock::default());
        let executor = Executor::new(Rc::clone(&clock) as Rc<dyn Clock>);
        let memory = || MemoryUse { allocated: 7, limit: 8 };
        let metrics = Metrics::of_image(&executor.handle(), memory);
        metrics.add(|sample: &mut Sample| {
            sample.counters("sheep", "Sheep by \"colour\"", "colour", [("black", 1), ("a\"b", 2)]);
        });
        clock.advance(Duration::from_millis(1_500));
        let response = Endpoints::new(metrics).answer(&Method::GET, "/metrics").unwrap();
        assert_eq!(response.headers()["content-type"], OPENMETRICS);
        let text = body(response);
        for line in [
            "# TYPE uptime_seconds gauge",
            "uptime_seconds 1.5",
            "memory_allocated_bytes 7.0",
            "task_panics_total 0",
            "sheep_total{colour=\"black\"} 1",
            "sheep_total{colour=\"a\\\"b\"} 2",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
    }

    #[test]
    fn health_says_what_is_wrong() {
        let endpoints = Endpoints::new(Metrics::default());
        assert_eq!(body(endpoints.answer(&Method::GET, "/healthz").unwrap()), "ok\n");
        let full = Rc::new(core::cell::Cell::new(false));
        let is_full = Rc::clone(&full);
        endpoints.add_check("storage", move || if is_full.get() { Err("full".to_owned()) } else { Ok(()) });
        assert_eq!(endpoints.answer(&Method::GET, "/healthz").unwrap().status(), 200);
        full.set(true);
        let response = endpoints.answer(&Method::HEAD, "/healthz").unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(body(response), "storage: full\n");
    }

    #[test]
    fn other_paths_and_methods_are_told_apart() {
        let endpoints = Endpoints::new(Metrics::default());
        assert!(endpoints.answer(&Method::GET, "/").is_none());
        assert_eq!(endpoints.answer(&Method::POST, "/events").unwrap().status(), 405);
        assert_eq!(endpoints.answer(&Method::GET, "/events").unwrap().status(), 200);
    }
}

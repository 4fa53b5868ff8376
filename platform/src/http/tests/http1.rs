//! HTTP/1.1: framing, persistence, limits, panics.

use super::*;

#[test]
fn a_connection_is_kept_and_dated() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, _task) = site.connect();
        for path in ["/one", "/two"] {
            client.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
            let (head, body) = client.response().await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains("date: Mon, 23 Nov 2026 15:40:00 GMT\r\n"), "{head}");
            assert_eq!(body, format!("GET {path}"));
        }
        assert_eq!(site.server.statistics().requests.get(), 2);
        assert_eq!(site.server.statistics().accepted.get(), 1);
    });
}

#[test]
fn a_response_leaves_in_one_write() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, _task) = site.connect();
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut bytes = [0; 1024];
        let length = client.pipe.read(&mut bytes).await.unwrap();
        assert!(bytes[..length].ends_with(b"GET /"), "the head came without the body");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, _task) = site.connect();
        let requests: String = (0..40).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: a\r\n\r\n")).collect();
        client.send(&requests).await;
        for n in 0..40 {
            assert_eq!(client.response().await.1, format!("GET /{n}"));
        }
    });
}

#[test]
fn chunked_bodies_go_in_and_come_out() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, _task) = site.connect();
        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
        handle.sleep(Duration::from_secs(1)).await;
        client.send("2\r\nde\r\n0\r\n\r\n").await;
        assert_eq!(client.response().await.1, "abcde");
    });
}

#[test]
fn a_client_that_expects_is_told_to_continue() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, _task) = site.connect();
        client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n").await;
        assert_eq!(client.response().await.0, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("abc").await;
        assert_eq!(client.response().await.1, "abc");
    });
}

#[test]
fn a_client_that_expects_too_much_is_refused_before_it_sends() {
    simulate(|handle| async move {
        let site = site(&handle, Limits { body_bytes: 10, ..Limits::default() });
        let (mut client, _task) = site.connect();
        client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\nexpect: 100-continue\r\n\r\n").await;
        let (head, body) = client.response().await;
        assert!(head.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{head}");
        assert_eq!(body, "the body is longer than 10 bytes\n");
        assert_eq!(client.rest().await, "");
    });
}

#[test]
fn a_chunked_body_past_the_limit_is_refused_and_the_answer_arrives() {
    simulate(|handle| async move {
        let site = site(&handle, Limits { body_bytes: 10, ..Limits::default() });
        let (mut client, task) = site.connect();
        client.send("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
        // More than the server reads before it answers.
        client.send(&"4\r\nabcd\r\n".repeat(3_000)).await;
        let (head, _) = client.response().await;
        assert!(head.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{head}");
        assert_eq!(client.rest().await, "");
        drop(client);
        task.await.unwrap();
    });
}

#[test]
fn heads_past_the_limits_are_refused() {
    for fields in ["x: y\r\n".repeat(101), format!("x: {}\r\n", "y".repeat(20_000))] {
        simulate(|handle| async move {
            let site = site(&handle, Limits::default());
            let (mut client, _task) = site.connect();
            client.send(&format!("GET / HTTP/1.1\r\n{fields}\r\n")).await;
            let answer = client.rest().await;
            assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer}");
            assert_eq!(site.server.statistics().requests.get(), 0);
        });
    }
}

#[test]
fn what_is_not_http_is_refused() {
    for bytes in ["hello\r\n\r\n", "GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"] {
        simulate(|handle| async move {
            let site = site(&handle, Limits::default());
            let (mut client, _task) = site.connect();
            client.send(bytes).await;
            let answer = client.rest().await;
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
            assert_eq!(site.server.statistics().broken.get(), 1);
        });
    }
}

#[test]
fn a_handler_that_panics_costs_its_request_alone() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, _task) = site.connect();
        client.send("GET /panic HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(client.response().await.0.starts_with("HTTP/1.1 500 Internal Server Error\r\n"));
        client.send("GET /after HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.response().await.1, "GET /after");
        assert_eq!(site.server.statistics().panics.get(), 1);
        assert_eq!(handle.panics(), 0);
    });
}

#[test]
fn the_last_request_of_a_connection_says_so() {
    simulate(|handle| async move {
        let site = site(&handle, Limits { requests_per_connection: 2, ..Limits::default() });
        let (mut client, _task) = site.connect();
        let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        client.send(request).await;
        assert!(!client.response().await.0.contains("connection: close"));
        client.send(request).await;
        let (head, _) = client.response().await;
        assert!(head.contains("connection: close\r\n"), "{head}");
        assert_eq!(client.rest().await, "");
    });
}

#[test]
fn a_head_request_has_no_body_and_http_1_0_closes() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, _task) = site.connect();
        client.send("HEAD /x HTTP/1.0\r\n\r\n").await;
        let answer = client.rest().await;
        assert!(answer.contains("content-length: 7\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    });
}

#[test]
fn clients_have_their_share_of_connections() {
    simulate(|handle| async move {
        let site = site(&handle, Limits { connections_per_client: 2, ..Limits::default() });
        let (one, _task) = site.connect();
        let (_two, _task) = site.connect();
        let (mut three, third) = site.connect();
        third.await.unwrap();
        assert!(three.pipe.read(&mut [0]).await.is_err());
        assert_eq!(site.server.statistics().refused.get(), 1);
        drop(one);
        handle.yield_now().await;
        handle.yield_now().await;
        assert_eq!(site.server.statistics().connections.get(), 1);
        let (mut four, _task) = site.connect();
        four.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(four.response().await.1, "GET /");
    });
}

//! Time: slow clients, idle ones, parking, shutdown.

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn a_head_that_does_not_end_is_given_up() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, task) = site.connect();
        client.send("GET / HTTP/1.1\r\n").await;
        // A byte a second, for ever.
        let drip = handle.clone();
        let dripped = handle.spawn(async move {
            let mut count = 0;
            while client.pipe.write_all(b"x").await.is_ok() && count < 60 {
                drip.sleep(Duration::from_secs(1)).await;
                count += 1;
            }
            (count, client)
        });
        task.await.unwrap();
        assert_eq!(handle.now().as_nanos() / 1_000_000_000, 17, "15 s, and 2 s of linger");
        assert_eq!(site.server.statistics().slow_heads.get(), 1);
        let (count, mut client) = dripped.await.unwrap();
        assert!(count < 20);
        let mut answer = String::new();
        let _ = client.pipe.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    });
}

#[test]
fn the_time_of_a_head_is_counted_for_each_request() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, _task) = site.connect();
        for _ in 0..3 {
            handle.sleep(Duration::from_secs(14)).await;
            client.send(GET).await;
            assert_eq!(client.response().await.1, "GET /");
        }
        client.send("GET /").await;
        let started = handle.now();
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert_eq!(handle.now().since(started).as_secs(), 15);
    });
}

#[test]
fn a_client_that_says_nothing_is_closed_without_an_answer() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, _task) = site.connect();
        assert_eq!(client.rest().await, "");
        assert_eq!(handle.now().as_nanos() / 1_000_000_000, 15);
    });
}

#[test]
fn an_idle_connection_is_parked_served_again_and_at_last_closed() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, task) = site.connect();
        for _ in 0..3 {
            client.send(GET).await;
            assert_eq!(client.response().await.1, "GET /");
            handle.sleep(Duration::from_secs(40)).await;
        }
        assert_eq!(client.rest().await, "");
        assert_eq!(handle.now().as_nanos() / 1_000_000_000, 155, "75 s after the last request at 80 s");
        assert_eq!(site.server.statistics().idle.get(), 1);
        drop(client);
        task.await.unwrap();
    });
}

#[test]
fn a_body_that_trickles_is_given_up() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, _task) = site.connect();
        client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n").await;
        for _ in 0..19 {
            client.send("x").await;
            handle.sleep(Duration::from_secs(1)).await;
        }
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        assert_eq!(handle.now().as_nanos() / 1_000_000_000, 20);
    });
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, task) = site.connect();
        client.send("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
        task.await.unwrap();
        assert_eq!(handle.now().as_nanos() / 1_000_000_000, 20);
        assert_eq!(site.server.statistics().slow_readers.get(), 1);
    });
}

#[test]
fn a_slow_reader_that_moves_is_served() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (mut client, _task) = site.connect();
        client.send("GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let mut total = 0;
        let mut buffer = vec![0; 8 * 1024];
        loop {
            handle.sleep(Duration::from_secs(3)).await;
            match client.pipe.read(&mut buffer).await.unwrap() {
                0 => break,
                length => total += length,
            }
        }
        assert!(total > 1 << 20);
        assert_eq!(site.server.statistics().slow_readers.get(), 0);
    });
}

/// A listener whose connections come from a queue.
struct Queue(Vec<Pipe>);

impl Listener for Queue {
    type Stream = Pipe;

    async fn accept(&mut self) -> std::io::Result<(Pipe, SocketAddr)> {
        match self.0.pop() {
            Some(pipe) => Ok((pipe, CLIENT.parse().unwrap())),
            None => core::future::pending().await,
        }
    }
}

#[test]
fn shutdown_lets_running_requests_finish_and_closes_the_rest() {
    simulate(|handle| async move {
        let site = site(&handle, Limits::default());
        let (clients, ends): (Vec<_>, Vec<_>) = (0..3).map(|_| Pipe::pair(64 * 1024)).unzip();
        let mut clients: Vec<_> = clients.into_iter().map(|pipe| Client { pipe }).collect();
        let (shutdown, server) = (Shutdown::default(), site.server.clone());
        let wish = shutdown.clone();
        let serving = handle.spawn(async move { server.serve(Queue(ends), &wish).await });
        clients[0].send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
        clients[1].send(GET).await;
        clients[1].response().await;
        handle.sleep(Duration::from_secs(1)).await;
        shutdown.request();
        // The idle one and the one that never asked are closed at once.
        assert_eq!(clients[1].rest().await, "");
        assert_eq!(clients[2].rest().await, "");
        assert_eq!(handle.now().as_nanos() / 1_000_000_000, 1);
        // The running one gets its answer.
        let (head, body) = clients[0].response().await;
        assert!(head.contains("connection: close\r\n"), "{head}");
        assert_eq!(body, "GET /slow");
        assert_eq!(clients[0].rest().await, "");
        assert_eq!(handle.now().as_nanos() / 1_000_000_000, 5);
        drop(clients);
        serving.await.unwrap();
        assert_eq!(site.server.statistics().connections.get(), 0);
    });
}

#[test]
fn shutdown_does_not_wait_for_ever() {
    simulate(|handle| async move {
        let site = site(&handle, Limits { drain_time: Duration::from_secs(3), ..Limits::default() });
        let (near, far) = Pipe::pair(1024);
        let (shutdown, server) = (Shutdown::default(), site.server.clone());
        let wish = shutdown.clone();
        let serving = handle.spawn(async move { server.serve(Queue(vec![far]), &wish).await });
        let mut client = Client { pipe: near };
        client.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
        handle.yield_now().await;
        handle.yield_now().await;
        shutdown.request();
        serving.await.unwrap();
        assert_eq!(handle.now().as_nanos() / 1_000_000_000, 3);
        assert!(client.pipe.read(&mut [0]).await.is_err());
    });
}

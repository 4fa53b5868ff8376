//! What a TCP message costs with 10 and with 20,000 open connections.
//!
//! A diagnosis, for profilers: two engines in one process, a perfect link between them, no kernel. Each message goes from
//! client to server and back; the cost is the processor's time for both ends and the link. It shows the worst of it: there
//! are twice as many connections as in an image, on small pages, and on most of the 20,000 a delayed ACK goes out after
//! each message, where on the 10 the next message carries it. The requirement (SPECIFICATION.md) is measured on an image,
//! by `connections.sh`.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::{AsyncReadExt, AsyncWriteExt};
use platform::net::tcp::simulation::{Link, Pair};
use platform::net::{TcpLimits, TcpStream};

/// Messages that are timed.
const MESSAGES: usize = 400_000;
/// Messages under way at one time.
const WINDOW: usize = 10;
/// Bytes in a message.
const LENGTH: usize = 64;
/// Rounds; the best counts, as other work on the machine only ever adds.
const ROUNDS: usize = 3;

fn main() {
    let roomy = 1 << 30;
    let few = best(10, roomy);
    println!("{:>6} connections: {few:>8.0} ns a message", 10);
    let many = best(20_000, roomy);
    println!("{:>6} connections: {many:>8.0} ns a message, ratio {:.2}", 20_000, many / few);
    let folding = measure(20_000, 8 << 20);
    println!("{:>6} connections in 8 MiB of buffers: {folding:.0} ns a message, each folding", 20_000);
}

fn best(connections: usize, memory: usize) -> f64 {
    (0..ROUNDS).map(|_| measure(connections, memory)).fold(f64::INFINITY, f64::min)
}

/// Nanoseconds for one message there and back.
fn measure(connections: usize, memory: usize) -> f64 {
    let limits = TcpLimits { half_open: connections, buffer_memory: memory, ..TcpLimits::default() };
    let link = Link { latency: Duration::from_micros(10), ..Link::default() };
    let pair = Pair::new(1, link, false, limits);
    let clients = connect(&pair, connections);
    run(&pair, &clients, connections.max(1000));
    let start = now();
    run(&pair, &clients, MESSAGES);
    now().duration_since(start).as_nanos() as f64 / MESSAGES as f64
}

type Streams = Rc<RefCell<Vec<Option<TcpStream>>>>;

/// Opens the connections; on the server each has a task that sends back what comes.
fn connect(pair: &Pair, connections: usize) -> Streams {
    let listener = pair.server.listen(80, connections).expect("the port is free");
    let handle = pair.handle();
    pair.handle().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            handle.spawn(async move {
                let mut message = [0; LENGTH];
                while stream.read_exact(&mut message).await.is_ok() {
                    stream.write_all(&message).await.expect("the client reads");
                }
            });
        }
    });
    let mut clients = Vec::new();
    // A hundred at a time, as clients come.
    while clients.len() < connections {
        let batch = (connections - clients.len()).min(100);
        let connects: Vec<_> = (0..batch).map(|_| pair.client.connect(&pair.server, 80)).collect();
        clients.extend(pair.run(async move {
            let mut streams = Vec::new();
            for connect in connects {
                streams.push(Some(connect.await.expect("the server accepts")));
            }
            streams
        }));
    }
    Rc::new(RefCell::new(clients))
}

/// Sends so many messages, over one connection after the other.
fn run(pair: &Pair, clients: &Streams, messages: usize) {
    let next = Rc::new(RefCell::new(0));
    let tasks: Vec<_> = (0..WINDOW)
        .map(|_| {
            let (next, clients) = (Rc::clone(&next), Rc::clone(clients));
            pair.handle().spawn(async move {
                let mut message = [7; LENGTH];
                while *next.borrow() < messages {
                    let turn = next.replace_with(|turn| *turn + 1);
                    let index = turn % clients.borrow().len();
                    let Some(mut stream) = clients.borrow_mut()[index].take() else { continue };
                    stream.write_all(&message).await.expect("the server reads");
                    stream.read_exact(&mut message).await.expect("the server answers");
                    clients.borrow_mut()[index] = Some(stream);
                }
            })
        })
        .collect();
    pair.run(async move {
        for task in tasks {
            task.await.expect("no task panics");
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time, and is no image")]
fn now() -> Instant {
    Instant::now()
}

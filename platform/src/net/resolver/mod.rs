//! Name resolution: a stub resolver that asks the configured name servers, over UDP and where that is not enough over
//! TCP.
//!
//! Reading: RFC 1034 (5.3), RFC 1123 (6.1), RFC 2308 (negative answers), RFC 5452 (forgery), RFC 6761 (localhost),
//! RFC 7766 (TCP), RFC 9715 (no fragments), draft-vixie-dnsext-dns0x20.
//!
//! A forger who does not see our query has to guess a port, an identifier and the case of the letters, all new for each
//! try; after a few wrong guesses the question is asked over TCP.

mod cache;
mod message;

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::time::Duration;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use futures_util::{AsyncReadExt, AsyncWriteExt};
use hickory_proto::rr::{Name, RecordType};

pub(super) use cache::Cache;
use message::{Outcome, Question};

use super::{IpOutput, Stack};

/// The port of name servers.
const PORT: u16 = 53;
/// How long each server has to answer, the first time round and the second.
const TIMEOUTS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// How long a server has over TCP, connecting included.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// Name servers that are asked, at most: each costs the one who waits its timeouts.
const MAX_SERVERS: usize = 4;
/// Answers to something else on our port, after which we suspect a forger.
const MAX_STRAYS: usize = 8;
/// Questions under way, at most: each holds a port.
const MAX_IN_FLIGHT: usize = 128;

/// The addresses of `name`, those first that a route leads to.
pub(super) async fn resolve(stack: &Stack, name: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a host name"));
    let mut full = Name::from_utf8(name).map_err(invalid)?;
    full.set_fqdn(true);
    if full.is_root() || name.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty host name"));
    }
    if full.is_localhost() || full.to_lowercase().to_ascii().ends_with(".localhost.") {
        return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
    }
    let (v6, v4) =
        futures_util::join!(lookup(stack, &full, RecordType::AAAA), lookup(stack, &full, RecordType::A));
    let mut addresses = match (v6, v4) {
        (Ok(v6), Ok(v4)) => [v6, v4].concat(),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) if !one.is_empty() => one,
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address")));
    }
    let core = stack.shared.core.borrow();
    addresses.sort_by_key(|address| core.egress.source_for(*address).is_none());
    Ok(addresses)
}

/// The addresses of one family; none if the name has none or does not exist.
async fn lookup(stack: &Stack, name: &Name, kind: RecordType) -> io::Result<Vec<IpAddr>> {
    let now = stack.shared.handle.now();
    if let Some(known) = stack.shared.names.borrow_mut().get(now, name, kind) {
        return Ok(known);
    }
    let servers = stack.name_servers();
    if servers.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotConnected, "no name server is known"));
    }
    let _in_flight = InFlight::start(stack)?;
    let mut refusal = io::Error::new(io::ErrorKind::TimedOut, "no name server answers");
    for (round, timeout) in TIMEOUTS.into_iter().enumerate() {
        for server in servers.iter().take(MAX_SERVERS) {
            let server = SocketAddr::new(*server, PORT);
            // A few servers do not keep the case of letters: they get a second chance.
            match ask(stack, server, name, kind, timeout, round == 0).await {
                Ok(answer) => {
                    let now = stack.shared.handle.now();
                    stack.shared.names.borrow_mut().put(now, name, kind, &answer);
                    return Ok(answer.addresses);
                }
                Err(error) => refusal = error,
            }
        }
    }
    Err(refusal)
}

async fn ask(
    stack: &Stack,
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    timeout: Duration,
    mix_case: bool,
) -> io::Result<message::Answer> {
    let handle = &stack.shared.handle;
    let question = Question::new(&**stack.shared.core.borrow().egress.entropy(), name, kind, mix_case);
    let request = question.to_bytes()?;
    let over_udp = handle.timeout(timeout, ask_udp(stack, server, &question, &request)).await;
    match over_udp.map_err(|_| io::ErrorKind::TimedOut)?? {
        Outcome::Answer(answer) => return Ok(answer),
        Outcome::Refused(reason) => return Err(refused(server, reason)),
        Outcome::Truncated | Outcome::Stray => {}
    }
    let over_tcp = handle.timeout(TCP_TIMEOUT, ask_tcp(stack, server, &question, &request)).await;
    match over_tcp.map_err(|_| io::ErrorKind::TimedOut)?? {
        Outcome::Answer(answer) => Ok(answer),
        Outcome::Refused(reason) => Err(refused(server, reason)),
        Outcome::Truncated | Outcome::Stray => Err(refused(server, "an answer to something else")),
    }
}

fn refused(server: SocketAddr, reason: &str) -> io::Error {
    io::Error::other(format!("the name server {} said: {reason}", server.ip()))
}

async fn ask_udp(
    stack: &Stack,
    server: SocketAddr,
    question: &Question,
    request: &[u8],
) -> io::Result<Outcome> {
    let socket = stack.bind_udp(0)?;
    socket.connect(server);
    socket.send_to(request, server).await?;
    for _ in 0..MAX_STRAYS {
        match question.read(socket.receive().await?.payload()) {
            Outcome::Stray => {}
            outcome => return Ok(outcome),
        }
    }
    Ok(Outcome::Stray)
}

/// RFC 7766, 8: each message comes after its length.
async fn ask_tcp(
    stack: &Stack,
    server: SocketAddr,
    question: &Question,
    request: &[u8],
) -> io::Result<Outcome> {
    let mut stream = stack.connect(server).await?;
    let length = u16::try_from(request.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), request].concat()).await?;
    stream.flush().await?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).await?;
    Ok(question.read(&answer))
}

/// The name of a server, and with it what resolves it: an image in which nobody makes one has no resolver.
#[derive(Clone)]
pub struct ServerName {
    name: Rc<str>,
    resolve: fn(Stack, Rc<str>) -> Resolution,
}

type Resolution = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>>>>;

impl ServerName {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            resolve: |stack, name| Box::pin(async move { resolve(&stack, &name).await }),
        }
    }

    /// The addresses, as [`Stack::resolve`] has them.
    pub(super) fn resolve(&self, stack: &Stack) -> Resolution {
        (self.resolve)(stack.clone(), Rc::clone(&self.name))
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Counts a question for as long as it is under way.
struct InFlight<'a>(&'a Stack);

impl<'a> InFlight<'a> {
    fn start(stack: &'a Stack) -> io::Result<Self> {
        let mut names = stack.shared.names.borrow_mut();
        if names.in_flight >= MAX_IN_FLIGHT {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "too many names are being resolved"));
        }
        names.in_flight += 1;
        Ok(Self(stack))
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.shared.names.borrow_mut().in_flight -= 1;
    }
}

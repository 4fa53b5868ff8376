//! The stack as its users see it, and the task that drives its device.

use core::cell::RefCell;
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};

use super::configuration::{Limits, StackConfiguration};
use super::counters::Counters;
use super::dhcp::Lease;
use super::engine::Engine;
use super::interface::{AddressState, AssignedAddress, Route, is_link_local};
use super::ping;
use super::resolver::{self, Cache};
use super::sntp::{self, TimeKeeper, TimeStatus};
use super::tcp::{TcpCounters, TcpListener, TcpStream};
use super::udp::{Local, UdpSocket};
use crate::device::{Entropy, Frame, Net};
use crate::executor::{Handle, Sleep};

/// Frames that are received in one turn, at most: a flood must leave time for the tasks that answer it.
const RECEIVE_BATCH: usize = 64;

/// What the stack, its task and its sockets share.
pub(super) struct Shared {
    pub handle: Handle,
    pub core: RefCell<Engine>,
    driver: RefCell<Option<Waker>>,
    limits: Limits,
    pub names: RefCell<Cache>,
    pub time: TimeKeeper,
}

impl Shared {
    /// Has the task transmit what is queued and look at its deadlines again.
    pub(super) fn wake_driver(&self) {
        if let Some(waker) = &*self.driver.borrow() {
            waker.wake_by_ref();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The task finds that there is nobody left, and ends.
        self.wake_driver();
    }
}

/// A network stack on one device. Clones lead to the same stack; it runs until the last of them and the last of its sockets
/// are gone.
#[derive(Clone)]
pub struct Stack {
    pub(super) shared: Rc<Shared>,
}

impl Stack {
    /// Starts a stack on `net`; its task is spawned on the executor of `handle`.
    #[must_use]
    pub fn new(
        handle: &Handle,
        entropy: Rc<dyn Entropy>,
        net: Box<dyn Net>,
        configuration: &StackConfiguration,
    ) -> Self {
        let engine = Engine::new(configuration, net.properties(), net.pool().clone(), entropy, handle);
        let shared = Rc::new(Shared {
            handle: handle.clone(),
            core: RefCell::new(engine),
            driver: RefCell::default(),
            limits: configuration.limits,
            names: RefCell::default(),
            time: TimeKeeper::default(),
        });
        let mut driver = Driver {
            shared: Rc::downgrade(&shared),
            net,
            received: Vec::with_capacity(RECEIVE_BATCH),
            sleep: handle.sleep_until(handle.now()),
        };
        handle.spawn(poll_fn(move |context| driver.poll(context)));
        if let Some(server) = &configuration.ntp {
            sntp::start(&shared, server.clone());
        }
        Self { shared }
    }

    /// Listens for TCP connections: on a port of every address, or of one. At most `backlog` wait to be accepted.
    ///
    /// # Errors
    /// `InvalidInput` for port 0, `AddrInUse` if there is such a listener.
    pub fn listen(&self, local: impl Into<Local>, backlog: usize) -> io::Result<TcpListener> {
        self.shared.core.borrow().tcp.listen(local.into().address(), backlog)
    }

    /// Opens a TCP connection, from the address that the routes choose.
    ///
    /// # Errors
    /// `NetworkUnreachable` without a route; `ConnectionRefused`, `TimedOut`, `HostUnreachable` by the peer or the network;
    /// `AddrNotAvailable` if no port is free, `OutOfMemory` at the limit of connections.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let connect = self.shared.core.borrow_mut().connect(self.shared.handle.now(), to)?;
        connect.await
    }

    /// TCP connections that nobody holds any more but that still deliver data or their FIN. An image that shuts down waits
    /// until there are none.
    #[must_use]
    pub fn closing_connections(&self) -> usize {
        self.shared.core.borrow().tcp.closing()
    }

    /// Counts of what has happened in TCP.
    #[must_use]
    pub fn tcp_counters(&self) -> TcpCounters {
        self.shared.core.borrow().tcp.counters()
    }

    /// Opens a UDP port; port 0 chooses one at random.
    ///
    /// # Errors
    /// `AddrInUse` if the port is taken on this address.
    pub fn bind_udp(&self, local: impl Into<Local>) -> io::Result<UdpSocket> {
        UdpSocket::bind(&self.shared, local.into(), self.shared.limits.udp_queue)
    }

    /// Completes when there is an address to be reached at: configured, leased, or announced by a router and verified. A
    /// link-local address alone does not count.
    pub async fn ready(&self) {
        poll_fn(|context| {
            let mut core = self.shared.core.borrow_mut();
            let usable =
                core.egress.interface.addresses().iter().any(|known| {
                    known.state == AddressState::Preferred && !is_link_local(known.cidr.address())
                });
            if usable {
                return Poll::Ready(());
            }
            core.watch(context.waker());
            Poll::Pending
        })
        .await;
    }

    /// The addresses of a host, those first that a route leads to. An address stands for itself.
    ///
    /// # Errors
    /// `InvalidInput` for what is no host name, `NotFound` if it has no address, `NotConnected` if no name server is known,
    /// `TimedOut` if none answers, `ResourceBusy` with too many questions under way.
    pub async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        resolver::resolve(self, name).await
    }

    /// What the last answer of the time server said; `None` without one so far.
    #[must_use]
    pub fn time_status(&self) -> Option<TimeStatus> {
        self.shared.time.status()
    }

    /// Sends an echo request with `length` bytes to `to`, and completes with the time until the reply: perhaps never.
    ///
    /// # Errors
    /// `NetworkUnreachable` without a route; `ResourceBusy` with too many requests under way.
    pub async fn ping(&self, to: IpAddr, length: usize) -> io::Result<Duration> {
        ping::ping(Rc::clone(&self.shared), to, length).await
    }

    /// The addresses of the interface, with their states.
    #[must_use]
    pub fn addresses(&self) -> Vec<AssignedAddress> {
        self.shared.core.borrow().egress.interface.addresses().to_vec()
    }

    /// The name servers: those of the configuration, then those that the network has told us of.
    #[must_use]
    pub fn name_servers(&self) -> Vec<IpAddr> {
        self.shared.core.borrow().name_servers()
    }

    /// What a DHCP server has given us, if one has.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.shared.core.borrow().lease().cloned()
    }

    /// The routes, in the order in which they are looked at.
    #[must_use]
    pub fn routes(&self) -> Vec<Route> {
        self.shared.core.borrow().egress.interface.routes().to_vec()
    }

    /// Counts of what has happened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.core.borrow().egress.counters
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stack {{ addresses: {:?} }}", self.addresses())
    }
}

/// Moves frames between the device and the protocols: a batch in, everything that is due, one flush out.
struct Driver {
    shared: Weak<Shared>,
    net: Box<dyn Net>,
    received: Vec<Frame>,
    sleep: Sleep,
}

impl Driver {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(shared) = self.shared.upgrade() else { return Poll::Ready(()) };
        if !shared.driver.borrow().as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            shared.driver.borrow_mut().replace(context.waker().clone());
            shared.core.borrow().tcp.register_waker(context.waker());
        }
        let now = shared.handle.now();
        let mut idle = false;
        while self.received.len() < RECEIVE_BATCH {
            let room = RECEIVE_BATCH - self.received.len();
            if self.net.poll_receive(context, &mut self.received, room).is_pending() {
                idle = true;
                break;
            }
        }
        let mut core = shared.core.borrow_mut();
        core.egress.now = now;
        for frame in self.received.drain(..) {
            core.receive_frame(frame);
        }
        for _ in 0..RECEIVE_BATCH {
            let Some(packet) = core.egress.local.pop_front() else { break };
            core.receive_local(packet);
        }
        core.poll(now);
        self.net.transmit(context, &mut core.egress.queue);
        core.transmitted();
        if !idle || !core.egress.local.is_empty() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(deadline) = core.next_deadline() else { return Poll::Pending };
        drop(core);
        if self.sleep.deadline() != deadline {
            self.sleep.reset(deadline);
        }
        if Pin::new(&mut self.sleep).poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;

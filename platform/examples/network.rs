//! A stack on a tap device, for tests against Linux: `network TAP static ADDRESS/LENGTH GATEWAY...` or `network TAP auto`.
//! Prints what it gets as lines on standard output; echoes on UDP and TCP port 7; resolves and pings what the environment
//! asks for (`RESOLVE`, `PING`).

use std::io::Write as _;
use std::net::IpAddr;
use std::rc::Rc;

use futures_util::AsyncWriteExt as _;
use platform::executor::{Executor, Handle};
use platform::host::Machine;
use platform::host::process::{NetBackend, ProcessOptions, machine};
use platform::net::{
    Ipv4Configuration, Ipv6Configuration, NtpServer, Stack, StackConfiguration, StaticAddresses,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tap, mode, rest @ ..] = &arguments[..] else { panic!("network TAP auto|static ...") };
    let options = ProcessOptions {
        nets: vec![("service".to_owned(), NetBackend::Tap(tap.clone()))],
        macs: vec![[2, 0, 0, 0, 0x77, 1]],
        ..ProcessOptions::default()
    };
    let machine = machine(&options).expect("the tap device opens");
    let configuration = configuration(mode, rest);
    let executor = Executor::new(Rc::clone(&machine.clock));
    let host = Rc::clone(&machine.host);
    executor.run(&*host, run(executor.handle(), machine, configuration)).expect("no panic");
}

fn configuration(mode: &str, rest: &[String]) -> StackConfiguration {
    let usual = StackConfiguration {
        hostname: Some("skerry".to_owned()),
        ntp: Some(NtpServer::FromDhcp),
        ..StackConfiguration::default()
    };
    if mode == "auto" {
        return usual;
    }
    let [address, gateways @ ..] = rest else { panic!("static ADDRESS/LENGTH GATEWAY...") };
    StackConfiguration {
        ipv4: Ipv4Configuration::Static(StaticAddresses {
            addresses: vec![address.parse().expect("an address with a prefix length")],
            gateways: gateways.iter().map(|gateway| gateway.parse().expect("an address")).collect(),
            routes: Vec::new(),
        }),
        ipv6: Ipv6Configuration::default(),
        ..usual
    }
}

async fn run(handle: Handle, mut machine: Machine, configuration: StackConfiguration) {
    let net = machine.nets.remove(0).device;
    println!("offload {:?}", net.properties().offload);
    let stack = Stack::new(&handle, Rc::clone(&machine.entropy), net, &configuration);
    stack.ready().await;
    println!("ready after {:?}", handle.now());
    handle.spawn(echo_datagrams(stack.clone()));
    handle.spawn(echo_streams(stack.clone(), handle.clone()));
    handle.spawn(report(stack.clone(), handle.clone()));
    machine.shutdown.requested().await;
    println!("{:#?}\n{:#?}", stack.counters(), stack.tcp_counters());
}

async fn report(stack: Stack, handle: Handle) {
    // Linux verifies its own addresses once the tap is open, and answers the second solicitation.
    handle.sleep(core::time::Duration::from_secs(8)).await;
    for known in stack.addresses() {
        println!("address {} {:?} {:?}", known.cidr, known.state, known.origin);
    }
    for route in stack.routes() {
        println!(
            "route {} via {:?} metric {} {:?}",
            route.destination, route.gateway, route.metric, route.origin
        );
    }
    println!("name servers {:?}", stack.name_servers());
    println!("lease {:?}", stack.lease());
    if let Ok(name) = std::env::var("RESOLVE") {
        println!("resolve {name}: {:?}", stack.resolve(&name).await);
    }
    for to in std::env::var("PING").unwrap_or_default().split_whitespace() {
        let to: IpAddr = to.parse().expect("an address");
        let five = core::time::Duration::from_secs(5);
        for length in [56, 1400, 9000] {
            println!("ping {to} {length}: {:?}", handle.timeout(five, stack.ping(to, length)).await);
        }
    }
    println!("time {:?}", stack.time_status());
    println!("done");
    let _ = std::io::stdout().flush();
}

async fn echo_datagrams(stack: Stack) {
    let socket = stack.bind_udp(7).expect("port 7 is free");
    while let Ok(datagram) = socket.receive().await {
        let _ = socket.reply(&datagram, datagram.payload()).await;
    }
}

async fn echo_streams(stack: Stack, handle: Handle) {
    let listener = stack.listen(7, 16).expect("port 7 is free");
    while let Ok((stream, _)) = listener.accept().await {
        handle.spawn(async move {
            let (reader, mut writer) = futures_util::AsyncReadExt::split(stream);
            if futures_util::io::copy(reader, &mut writer).await.is_ok() {
                let _ = writer.close().await;
            }
        });
    }
}

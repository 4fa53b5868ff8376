//! A keep-alive HTTP/1.1 client of no more than the benches need.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::Failure;

/// A server that answers nothing for so long has failed the bench.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection, opened again when the server closes it.
pub(crate) struct Client {
    server: String,
    authorization: String,
    stream: Option<TcpStream>,
    received: Vec<u8>,
    /// Where the stream is read to.
    chunk: Box<[u8]>,
}

/// An answer, as far as the benches look.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Bytes of its body.
    pub(crate) length: usize,
}

impl Client {
    /// A client of `server` (`HOST:PORT`), as `user` (`NAME:PASSWORD`).
    pub(crate) fn new(server: &str, user: &str) -> Self {
        Self {
            server: server.to_owned(),
            authorization: base64(user.as_bytes()),
            stream: None,
            received: Vec::new(),
            chunk: vec![0; 64 * 1024].into(),
        }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<Answer, Failure> {
        let mut message = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {}\r\nContent-Length: {}\r\n{headers}\r\n",
            self.server,
            self.authorization,
            body.len()
        )
        .into_bytes();
        message.extend_from_slice(body);
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.server)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut().ok_or("not connected")?;
        stream.write_all(&message)?;
        self.received.clear();
        self.read_answer()
    }

    fn read_more(&mut self) -> Result<usize, Failure> {
        let stream = self.stream.as_mut().ok_or("not connected")?;
        let length = stream.read(&mut self.chunk)?;
        self.received.extend_from_slice(&self.chunk[..length]);
        Ok(length)
    }

    fn read_answer(&mut self) -> Result<Answer, Failure> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(head) = response.parse(&self.received)? {
                let header = |name: &str| {
                    let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
                    found.and_then(|header| std::str::from_utf8(header.value).ok())
                };
                let status = response.code.unwrap_or(0);
                // RFC 9112, section 9.3: HTTP/1.0 closes unless it says otherwise, HTTP/1.1 keeps.
                let close = match header("connection") {
                    Some(value) if response.version == Some(0) => !value.eq_ignore_ascii_case("keep-alive"),
                    Some(value) => value.eq_ignore_ascii_case("close"),
                    None => response.version == Some(0),
                };
                let chunked = header("transfer-encoding").is_some();
                let length = header("content-length").map(str::parse).transpose()?;
                let length = match length {
                    _ if status == 204 || status == 304 => 0,
                    Some(length) => self.read_length(head, length)?,
                    None if chunked => self.read_chunks(head)?,
                    None => self.read_to_end(head)?,
                };
                if close {
                    self.stream = None;
                }
                return Ok(Answer { status, length });
            }
            if self.read_more()? == 0 {
                self.stream = None;
                return Err("the server closed the connection instead of answering".into());
            }
        }
    }

    fn read_length(&mut self, head: usize, length: usize) -> Result<usize, Failure> {
        while self.received.len() < head + length {
            if self.read_more()? == 0 {
                return Err("the server closed the connection within a body".into());
            }
        }
        Ok(length)
    }

    fn read_chunks(&mut self, mut at: usize) -> Result<usize, Failure> {
        let mut total = 0;
        loop {
            match httparse::parse_chunk_size(&self.received[at..]).map_err(|_| "a bad chunk")? {
                httparse::Status::Partial => {}
                httparse::Status::Complete((line, size)) => {
                    let size = usize::try_from(size)?;
                    let end = at + line + size + 2;
                    if self.received.len() >= end {
                        at = end;
                        total += size;
                        if size == 0 {
                            return Ok(total);
                        }
                        continue;
                    }
                }
            }
            if self.read_more()? == 0 {
                return Err("the server closed the connection within a chunk".into());
            }
        }
    }

    fn read_to_end(&mut self, head: usize) -> Result<usize, Failure> {
        while self.read_more()? > 0 {}
        self.stream = None;
        Ok(self.received.len() - head)
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let value =
            group.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = ALPHABET[(value >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { digit as char } else { '=' });
        }
    }
    text
}

//! A client of one connection: requests one after the other, answers whole. It writes no log.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

pub struct Client {
    stream: BufReader<TcpStream>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// In small letters, a line each.
    pub headers: String,
    pub body: String,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// `headers` are whole lines without their ends.
    pub fn send(&mut self, method: &str, path: &str, headers: &[&str], body: &str) -> Result<Answer, Error> {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
        for header in headers {
            request += &format!("{header}\r\n");
        }
        self.stream.get_mut().write_all(format!("{request}\r\n{body}").as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let (first, rest) = head.split_once("\r\n").unwrap_or_default();
        let status =
            first.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(ErrorKind::InvalidData)?;
        let mut answer = Answer { status, headers: rest.replace('\r', "").to_lowercase(), body: String::new() };
        let len = answer.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body)?;
        answer.body = String::from_utf8(body).map_err(|_| ErrorKind::InvalidData)?;
        Ok(answer)
    }
}

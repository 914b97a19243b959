//! A connection to PostgreSQL that asks and replicates: `replication=database` takes SQL and the commands of
//! replication alike.
//!
//! ```text
//!  open ─▶ query … ─▶ replicate ─▶ receive … (and status in between)
//! ```
//! `postgres-protocol` writes and reads the messages. No client of this kind goes with our one TLS and leaves the
//! features of others as they are: `tokio-postgres` has no replication, `pgwire-replication` brings a second provider of
//! ciphers.
//!
//! Source: PostgreSQL 15 Documentation, §55.2 "Message Flow", §55.4 "Streaming Replication Protocol".

use std::{io, path::Path, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    },
    message::{
        backend::{ErrorResponseBody, Header, Message},
        frontend,
    },
};
use rouse_triggers::postgres::{Lsn, address::Address};
use rouse_types::Timestamp;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    dial::{self, Stream},
    problem::Problem,
};

/// Until the server has taken us in.
const OPEN_MAX: Duration = Duration::from_secs(20);
/// One message of the server: a row's change with its old row. PostgreSQL itself ends at 1 GiB.
pub(super) const MESSAGE_BYTES_MAX: usize = 128 << 20;
/// What is read at once.
const READ_BYTES: usize = 64 << 10;
/// `CopyBothResponse`, which only replication has.
const COPY_BOTH_TAG: u8 = b'W';
/// From 1970-01-01 to 2000-01-01, where PostgreSQL's time begins, in microseconds.
const EPOCH_US: u64 = 946_684_800_000_000;

/// What a replication stream brings.
#[derive(Debug)]
pub(super) enum Copied {
    /// A message of the output plugin, from this place of the log.
    Data(Lsn, Bytes),
    /// The server is there, and has sent all up to this place.
    Alive {
        /// That place.
        upto: Lsn,
        /// Whether it wants an answer at once.
        reply: bool,
    },
}

/// An open connection.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    /// What has come and is not read yet.
    read: BytesMut,
    user: String,
}

type Row = Vec<Option<String>>;

impl Connection {
    /// Connects and logs in, within a bound.
    pub(super) async fn open(address: &Address, state: &Path) -> Result<Self, Problem> {
        let slow = || {
            Problem::new(format!(
                "the database at {}:{} does not answer within 20 s",
                address.host, address.port
            ))
            .hint("check the url's host and port, and whether a firewall drops what is sent there")
        };
        timeout(OPEN_MAX, Self::log_in(address, state)).await.map_err(|_| slow())?
    }

    async fn log_in(address: &Address, state: &Path) -> Result<Self, Problem> {
        let stream = dial::dial(address, state).await?;
        let mut own = Self { stream, read: BytesMut::with_capacity(READ_BYTES), user: address.user.clone() };
        let mut out = BytesMut::new();
        // Values are text: in the same words whatever the server's settings are.
        let parameters = [
            ("user", address.user.as_str()),
            ("database", address.database.as_str()),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", "rouse"),
            ("DateStyle", "ISO"),
            ("IntervalStyle", "iso_8601"),
            ("TimeZone", "UTC"),
            ("extra_float_digits", "1"),
        ];
        frontend::startup_message(parameters, &mut out).map_err(|error| broken(&error))?;
        own.send(&out).await?;
        own.authenticate(address).await?;
        loop {
            if let Message::ReadyForQuery(_) = own.message().await? {
                return Ok(own);
            }
        }
    }

    async fn authenticate(&mut self, address: &Address) -> Result<(), Problem> {
        let password = address.password.as_bytes();
        let mut scram: Option<ScramSha256> = None;
        let invalid = |error: io::Error| {
            Problem::new(format!("the database's proof of the password is wrong: {error}"))
        };
        loop {
            let mut out = BytesMut::new();
            match self.message().await? {
                Message::AuthenticationOk => return Ok(()),
                Message::AuthenticationCleartextPassword => frontend::password_message(password, &mut out),
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(address.user.as_bytes(), password, body.salt());
                    frontend::password_message(hash.as_bytes(), &mut out)
                }
                Message::AuthenticationSasl(body) => {
                    let offered = body.mechanisms().any(|name| Ok(name == SCRAM_SHA_256)).unwrap_or(false);
                    if !offered {
                        return Err(unknown_login());
                    }
                    let own = ScramSha256::new(password, ChannelBinding::unsupported());
                    let own = scram.insert(own);
                    frontend::sasl_initial_response(SCRAM_SHA_256, own.message(), &mut out)
                }
                Message::AuthenticationSaslContinue(body) => {
                    let own = scram.as_mut().ok_or_else(unknown_login)?;
                    own.update(body.data()).map_err(invalid)?;
                    frontend::sasl_response(own.message(), &mut out)
                }
                Message::AuthenticationSaslFinal(body) => {
                    scram.as_mut().ok_or_else(unknown_login)?.finish(body.data()).map_err(invalid)?;
                    continue;
                }
                _ => return Err(unknown_login()),
            }
            .map_err(|error| broken(&error))?;
            self.send(&out).await?;
        }
    }

    /// Runs one statement, and gives its rows as text.
    pub(super) async fn query(&mut self, sql: &str, most: Duration) -> Result<Vec<Row>, Problem> {
        let slow = || Problem::new(format!("the database does not answer within {} s", most.as_secs()));
        timeout(most, self.ask(sql)).await.map_err(|_| slow())?
    }

    async fn ask(&mut self, sql: &str) -> Result<Vec<Row>, Problem> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(|error| broken(&error))?;
        self.send(&out).await?;
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            match self.any_message().await? {
                Message::DataRow(body) => {
                    let cell = |range: Option<std::ops::Range<usize>>| {
                        Ok(range.map(|range| String::from_utf8_lossy(&body.buffer()[range]).into_owned()))
                    };
                    rows.push(body.ranges().map(cell).collect().map_err(|error| broken(&error))?);
                }
                Message::ErrorResponse(body) => failed = Some(self.refused(&body)),
                Message::ReadyForQuery(_) => return failed.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// Begins to read a slot, from this place of the log or where it was confirmed up to, whichever is later.
    pub(super) async fn replicate(&mut self, slot: &str, from: Lsn, most: Duration) -> Result<(), Problem> {
        let sql = format!(
            "START_REPLICATION SLOT \"{slot}\" LOGICAL {from} (proto_version '1', publication_names '\"{slot}\"')"
        );
        let start = async {
            let mut out = BytesMut::new();
            frontend::query(&sql, &mut out).map_err(|error| broken(&error))?;
            self.send(&out).await?;
            loop {
                let header = self.fill().await?;
                let length = usize::try_from(header.len()).unwrap_or(0) + 1;
                if header.tag() == COPY_BOTH_TAG {
                    self.read.advance(length);
                    return Ok(());
                }
                self.message().await?;
            }
        };
        let slow = || Problem::new(format!("the slot '{slot}' does not start within {} s", most.as_secs()));
        timeout(most, start).await.map_err(|_| slow())?
    }

    /// What the stream brings next. Nothing is lost when this is dropped before it is done.
    pub(super) async fn receive(&mut self) -> Result<Copied, Problem> {
        loop {
            match self.message().await? {
                Message::CopyData(body) => {
                    if let Some(copied) = copied(body.into_bytes()) {
                        return Ok(copied);
                    }
                }
                Message::CopyDone => return Err(Problem::new("the database ended the replication")),
                _ => {}
            }
        }
    }

    /// Whether a whole message has come already, so that `receive` would not wait.
    pub(super) fn has_more(&self) -> bool {
        let header = Header::parse(&self.read).ok().flatten();
        header
            .is_some_and(|header| usize::try_from(header.len()).is_ok_and(|length| self.read.len() > length))
    }

    /// Tells up to where changes are safe; and asks whether the server is there.
    pub(super) async fn status(&mut self, upto: Lsn, now: Timestamp, ask: bool) -> Result<(), Problem> {
        let now = (now.as_millis() * 1_000).saturating_sub(EPOCH_US);
        let mut body = Vec::with_capacity(34);
        body.push(b'r');
        // Written, flushed, applied: all one here.
        for number in [upto.0, upto.0, upto.0, now] {
            body.extend(number.to_be_bytes());
        }
        body.push(u8::from(ask));
        let mut out = BytesMut::new();
        frontend::CopyData::new(&body[..]).map_err(|error| broken(&error))?.write(&mut out);
        self.send(&out).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout(OPEN_MAX, sent).await {
            Ok(sent) => sent.map_err(|error| broken(&error)),
            Err(_) => Err(Problem::new("the database takes nothing any more")),
        }
    }

    /// The next message, an error among them as one.
    async fn message(&mut self) -> Result<Message, Problem> {
        match self.any_message().await? {
            Message::ErrorResponse(body) => Err(self.refused(&body)),
            message => Ok(message),
        }
    }

    async fn any_message(&mut self) -> Result<Message, Problem> {
        self.fill().await?;
        let message = Message::parse(&mut self.read).map_err(|error| broken(&error))?;
        message.ok_or_else(|| Problem::new("a message of the database is cut off"))
    }

    /// Reads until a whole message is there.
    async fn fill(&mut self) -> Result<Header, Problem> {
        loop {
            if let Some(header) = Header::parse(&self.read).map_err(|error| broken(&error))? {
                let length = usize::try_from(header.len()).unwrap_or(0);
                if length > MESSAGE_BYTES_MAX {
                    let message =
                        format!("a change of a row has {length} bytes; at most {MESSAGE_BYTES_MAX} are read");
                    return Err(Problem::new(message).hint(
                        "take the table out of the trigger, or keep such values in another table; to skip the change, \
                         drop the slot: it is made anew, and what lies between is not seen",
                    ));
                }
                if self.read.len() > length {
                    return Ok(header);
                }
                self.read.reserve(length + 1 - self.read.len());
            } else {
                self.read.reserve(READ_BYTES);
            }
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) => return Err(Problem::new("the database closed the connection")),
                Ok(_) => {}
                Err(error) => return Err(broken(&error)),
            }
        }
    }

    fn refused(&self, body: &ErrorResponseBody) -> Problem {
        let (mut code, mut message) = (String::new(), String::new());
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => code = text(),
                b'M' => message = text(),
                _ => {}
            }
        }
        Problem::of_server(&code, &message, &self.user)
    }
}

/// Reads what a CopyData of replication holds; one of another kind is nothing.
fn copied(mut data: Bytes) -> Option<Copied> {
    match data.try_get_u8().ok()? {
        b'w' => {
            let (start, _end, _time) =
                (data.try_get_u64().ok()?, data.try_get_u64().ok()?, data.try_get_u64().ok()?);
            Some(Copied::Data(Lsn(start), data))
        }
        b'k' => {
            let (upto, _time, reply) =
                (data.try_get_u64().ok()?, data.try_get_u64().ok()?, data.try_get_u8().ok()?);
            Some(Copied::Alive { upto: Lsn(upto), reply: reply == 1 })
        }
        _ => None,
    }
}

fn unknown_login() -> Problem {
    Problem::new("the database wants a way to log in that is not known here")
        .hint("let the role log in by password: scram-sha-256 or md5 in the server's pg_hba.conf")
}

fn broken(error: &io::Error) -> Problem {
    Problem::broken("talk to the database", error)
}

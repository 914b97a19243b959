//! Actions that other processes of the platform take, in the audit log like control's own: begun before they are done, ended
//! after. They come by the unix socket, which only the platform's own user reaches, with the operator's token.

use http::{Method, Request, Response};
use hyper::body::Incoming;
use rouse_api::actions::{self, How, PATH};
use rouse_metering::audit::log::Outcome;
use rouse_store::records::Expect;
use rouse_types::{Code, Refusal};

use super::{BEGUN, Begun};
use crate::{
    body::{self, Body},
    control::Control,
    state::{self, Committed},
    who::Who,
};

/// The longest of what is said of an action: names of things.
const TEXT_CHARS_MAX: usize = 300;

/// Whether a request at the unix socket is about these.
pub(crate) fn is_meant(path: &str) -> bool {
    path == PATH
}

fn short(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(TEXT_CHARS_MAX).collect()
}

impl Control {
    /// Answers one request.
    pub(crate) async fn their_action(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        if self.who(request.headers()).await? != Who::Operator {
            return Err(Refusal::new(Code::Forbidden, "this is for the platform's own processes"));
        }
        match *request.method() {
            Method::POST => {
                let begin = body::read_json(request.into_body()).await?;
                body::json(&actions::Begun { key: self.begin_theirs(begin).await? })
            }
            _ => {
                let actions::End { key, how } = body::read_json(request.into_body()).await?;
                self.end_theirs(&key, how).await?;
                body::json(&serde_json::json!({}))
            }
        }
    }

    async fn begin_theirs(&self, begin: actions::Begin) -> Result<String, Refusal> {
        let actions::Begin { tenant, who, from, operation, of } = begin;
        let mut of: std::collections::BTreeMap<_, _> =
            of.iter().map(|(name, value)| (short(name), short(value))).collect();
        of.insert("tenant".to_owned(), tenant.to_string());
        let begun = Begun {
            tenant: Some(tenant),
            time: self.config.clock.now(),
            who: short(&who),
            from: short(&from),
            operation: short(&operation),
            of,
            before: None,
        };
        let mut writes = Vec::new();
        let noted = self.begun(begun, &mut writes)?;
        match state::commit(&self.records, writes).await? {
            Committed::Done => Ok(noted.key),
            Committed::Conflict => Err(state::contended()),
        }
    }

    async fn end_theirs(&self, key: &str, how: How) -> Result<(), Refusal> {
        let missing = || Refusal::new(Code::BadRequest, "no such action is under way");
        if !key.starts_with(&self.own_actions()) {
            return Err(missing());
        }
        let begun = state::get::<Begun>(&self.records, BEGUN, key).await?.ok_or_else(missing)?.value;
        match how {
            How::Done => self.append(key, &begun, Outcome::Done, None).await,
            How::Failed => self.append(key, &begun, Outcome::Failed, None).await,
            How::Refused => {
                let write = state::delete(BEGUN, key.to_owned(), Expect::Any);
                state::commit(&self.records, vec![write]).await.map(drop)
            }
        }
    }
}

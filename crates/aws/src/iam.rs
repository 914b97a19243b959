//! Identity and Access Management: roles and their policies, kept and given back, so that scripts that make a role
//! before its function go through. They allow and forbid nothing here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::{Response, StatusCode};
use rouse_api::percent::encode;
use serde::{Deserialize, Serialize};

use crate::{
    Body,
    face::{Around, Face},
    state,
    sts::{error, escape, xml},
};

const NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

/// A role.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Role {
    path: String,
    id: String,
    created: String,
    trust: String,
    description: Option<String>,
    duration: u64,
    attached: BTreeSet<String>,
    inline: BTreeMap<String, String>,
}

/// Answers one request in form encoding.
pub(crate) async fn answer(face: &Arc<Face>, around: &Around, form: &[(String, String)]) -> Response<Body> {
    match run(face, around, form).await {
        Ok(response) => response,
        Err((code, message, status)) => error(code, &message, status),
    }
}

type Failure = (&'static str, String, StatusCode);

async fn run(
    face: &Arc<Face>,
    around: &Around,
    form: &[(String, String)],
) -> Result<Response<Body>, Failure> {
    let get = |name: &str| form.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    let (action, name) = (get("Action").unwrap_or_default(), get("RoleName").unwrap_or_default());
    let tenant = &around.scope.tenant;
    let store = &face.store;
    let failed =
        |error: crate::error::AwsError| ("ServiceFailure", error.message, StatusCode::INTERNAL_SERVER_ERROR);
    if action == "ListRoles" {
        let all: Vec<(String, Role)> = store.list(state::ROLES, tenant, "").await.map_err(failed)?;
        let members: String = all
            .iter()
            .map(|(name, role)| format!("<member>{}</member>", shown(around, name, role)))
            .collect();
        return Ok(xml(
            action,
            &format!("<Roles>{members}</Roles><IsTruncated>false</IsTruncated>"),
            NAMESPACE,
        ));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b)) || name.is_empty() {
        let text = "The specified value for roleName is invalid. It must contain only alphanumeric characters and/or the \
                    following: +=,.@_-";
        return Err(("ValidationError", text.to_owned(), StatusCode::BAD_REQUEST));
    }
    // Keys of records have fewer characters than roles.
    let key = name
        .bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b == b'-' || b == b'_' {
                char::from(b).to_string()
            } else {
                format!("={b:02x}")
            }
        })
        .collect::<String>();
    let _lock = store.lock().await;
    let known = store.get::<Role>(state::ROLES, tenant, &key).await.map_err(failed)?;
    if action == "CreateRole" {
        if known.is_some() {
            let text = format!("Role with name {name} already exists.");
            return Err(("EntityAlreadyExists", text, StatusCode::CONFLICT));
        }
        let random = crate::face::uuid().replace('-', "").to_uppercase();
        let role = Role {
            path: get("Path").unwrap_or("/").to_owned(),
            id: format!("AROA{}", &random[..17]),
            created: jiff::Timestamp::from_millisecond(
                i64::try_from(around.now.as_millis()).unwrap_or_default(),
            )
            .map_or_else(|_| String::new(), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            trust: get("AssumeRolePolicyDocument").unwrap_or_default().to_owned(),
            description: get("Description").map(str::to_owned),
            duration: get("MaxSessionDuration").and_then(|text| text.parse().ok()).unwrap_or(3_600),
            ..Role::default()
        };
        store.create(state::ROLES, tenant, &key, &role).await.map_err(failed)?;
        return Ok(xml(action, &format!("<Role>{}</Role>", shown(around, name, &role)), NAMESPACE));
    }
    let missing =
        || ("NoSuchEntity", format!("The role with name {name} cannot be found."), StatusCode::NOT_FOUND);
    let mut at = known.ok_or_else(missing)?;
    let policy = get("PolicyName").unwrap_or_default().to_owned();
    let arn = get("PolicyArn").unwrap_or_default().to_owned();
    let role = &mut at.value;
    let result = match action {
        "GetRole" => {
            return Ok(xml(action, &format!("<Role>{}</Role>", shown(around, name, role)), NAMESPACE));
        }
        "ListAttachedRolePolicies" => {
            let members = role.attached.iter().map(|arn| {
                let name = arn.rsplit('/').next().unwrap_or_default();
                format!(
                    "<member><PolicyName>{}</PolicyName><PolicyArn>{}</PolicyArn></member>",
                    escape(name),
                    escape(arn)
                )
            });
            let members: String = members.collect();
            format!("<AttachedPolicies>{members}</AttachedPolicies><IsTruncated>false</IsTruncated>")
        }
        "ListRolePolicies" => {
            let members: String =
                role.inline.keys().map(|name| format!("<member>{}</member>", escape(name))).collect();
            format!("<PolicyNames>{members}</PolicyNames><IsTruncated>false</IsTruncated>")
        }
        "GetRolePolicy" => {
            let Some(document) = role.inline.get(&policy) else {
                let text = format!("The role policy with name {policy} cannot be found.");
                return Err(("NoSuchEntity", text, StatusCode::NOT_FOUND));
            };
            format!(
                "<RoleName>{}</RoleName><PolicyName>{}</PolicyName><PolicyDocument>{}</PolicyDocument>",
                escape(name),
                escape(&policy),
                encode(document)
            )
        }
        "DeleteRole" => {
            if !role.attached.is_empty() || !role.inline.is_empty() {
                let text = "Cannot delete entity, must detach all policies first.".to_owned();
                return Err(("DeleteConflict", text, StatusCode::CONFLICT));
            }
            store.delete(state::ROLES, tenant, &key).await.map_err(failed)?;
            return Ok(xml(action, "", NAMESPACE));
        }
        "AttachRolePolicy" => {
            role.attached.insert(arn);
            String::new()
        }
        "DetachRolePolicy" => {
            role.attached.remove(&arn);
            String::new()
        }
        "PutRolePolicy" => {
            role.inline.insert(policy, get("PolicyDocument").unwrap_or_default().to_owned());
            String::new()
        }
        "DeleteRolePolicy" => {
            role.inline.remove(&policy);
            String::new()
        }
        "UpdateAssumeRolePolicy" => {
            role.trust = get("PolicyDocument").unwrap_or_default().to_owned();
            String::new()
        }
        other => {
            let text = format!("Could not find operation {other} for version 2010-05-08");
            return Err(("InvalidAction", text, StatusCode::BAD_REQUEST));
        }
    };
    if result.is_empty() {
        store.put(state::ROLES, tenant, &key, &at).await.map_err(failed)?;
    }
    Ok(xml(action, &result, NAMESPACE))
}

fn shown(around: &Around, name: &str, role: &Role) -> String {
    let description = role.description.as_ref();
    let description =
        description.map(|text| format!("<Description>{}</Description>", escape(text))).unwrap_or_default();
    format!(
        "<Path>{}</Path><RoleName>{}</RoleName><RoleId>{}</RoleId><Arn>arn:aws:iam::{}:role{}{}</Arn>\
         <CreateDate>{}</CreateDate><AssumeRolePolicyDocument>{}</AssumeRolePolicyDocument>{description}\
         <MaxSessionDuration>{}</MaxSessionDuration>",
        escape(&role.path),
        escape(name),
        role.id,
        around.scope.account,
        escape(&role.path),
        escape(name),
        role.created,
        encode(&role.trust),
        role.duration
    )
}

//! Amazon's own clients against the whole platform: boto3, the aws command line, the JavaScript SDK.

use std::process::Command;

use rouse_clients::{environment, environment_of, run, script, tool};
use rouse_e2e::{Platform, need, skipped};

/// Runs one test of a script for boto3, unless the machine lacks what it needs.
macro_rules! boto3 {
    ($script:literal: $($name:ident)*) => {$(
        #[tokio::test]
        async fn $name() {
            let platform = Platform::shared();
            need!(platform, "boto3", "python");
            let Some(python) = tool("ROUSE_AWS_CLIENTS_PYTHON") else {
                skipped(stringify!($name), "boto3 is not there: run `cargo xtask setup`");
                return;
            };
            let mut command = Command::new(python.join("bin/python"));
            command.arg(script($script)).arg(stringify!($name));
            run(command, environment(&platform).await).await;
        }
    )*};
}

boto3! { "boto.py":
    a_function_is_created_awaited_called_and_deleted
    code_comes_from_objects_and_a_function_has_a_key_of_its_own
    a_function_is_updated_and_published_and_aliases_share_its_calls
    an_error_a_timeout_and_an_exit_are_told_as_aws_tells_them
    the_tail_of_the_log_and_the_context_are_there
    an_answer_streams_as_events
    an_event_is_accepted_and_runs_and_a_failed_one_again
    what_is_wrong_gets_the_errors_of_aws
    lists_are_paged
    every_paginator_and_waiter_of_the_sdk_comes_to_its_end
    settings_are_kept_and_given_back
    tags_policies_and_signing_are_kept
    a_role_is_assumed_for_a_time
    roles_identity_and_logs_are_there
    a_wrong_key_or_secret_is_refused
}

boto3! { "shapes.py":
    a_version_is_active_when_its_publication_is_answered
    tags_and_policies_change_the_revision_of_what_they_are_for
    aliases_and_concurrency_are_refused_in_the_words_of_aws
    destinations_mappings_and_signing_are_refused_in_the_words_of_aws
    layers_and_archives_are_refused_in_the_words_of_aws
    what_ends_early_or_is_no_json_is_told_as_aws_tells_it
    a_url_that_lets_everyone_in_says_so_in_a_policy
}

boto3! { "layers.py":
    a_python_function_imports_a_module_of_a_layer
    a_node_function_requires_a_package_of_a_layer
    a_layer_brings_the_runtime_an_extension_and_a_wrapper
    layers_are_published_listed_shared_and_deleted
    what_is_wrong_with_layers_is_told_as_aws_tells_it
}

boto3! { "concurrency.py":
    a_function_with_reserved_concurrency_runs_so_many_calls_and_throttles_the_next
    provisioned_instances_are_there_before_the_first_call
}

boto3! { "urls.py":
    a_function_answers_http_at_its_url
    a_function_says_status_headers_cookies_and_body
    only_who_signs_reaches_a_url_of_aws_iam
    a_page_of_another_origin_is_told_what_it_may
    an_answer_streams_through_a_url
    urls_are_made_shown_changed_and_deleted
}

#[tokio::test]
async fn what_a_function_reserves_no_other_function_takes() {
    let platform = Platform::shared();
    need!(platform, "boto3", "python");
    let Some(python) = tool("ROUSE_AWS_CLIENTS_PYTHON") else {
        skipped(
            "what_a_function_reserves_no_other_function_takes",
            "boto3 is not there: run `cargo xtask setup`",
        );
        return;
    };
    let limits = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(limits.path(), "concurrency = 3\n").expect("write the limits");
    assert!(platform.rouse(&["tenant", "create", "reserving"]).await.ok);
    let file = limits.path().display().to_string();
    assert!(platform.rouse(&["--tenant", "reserving", "limits", "set", &file]).await.ok);
    let mut command = Command::new(python.join("bin/python"));
    command.arg(script("concurrency.py")).arg("what_a_function_reserves_no_other_function_takes");
    run(command, environment_of(&platform, "reserving").await).await;
}

#[tokio::test]
async fn the_aws_command_line_creates_and_calls_a_function() {
    let platform = Platform::shared();
    need!(platform, "the_aws_command_line_creates_and_calls_a_function", "python");
    let Some(python) = tool("ROUSE_AWS_CLIENTS_PYTHON") else {
        skipped("the_aws_command_line_creates_and_calls_a_function", "no awscli: run `cargo xtask setup`");
        return;
    };
    let mut command = Command::new("sh");
    command.arg(script("cli.sh")).arg(python.join("bin"));
    let out = run(command, environment(&platform).await).await;
    assert!(out.contains("\"hello\": \"cli\""), "{out}");
}

#[tokio::test]
async fn the_javascript_sdk_creates_and_calls_a_function() {
    let platform = Platform::shared();
    need!(platform, "the_javascript_sdk_creates_and_calls_a_function", "node");
    let Some(node) = tool("ROUSE_AWS_CLIENT_NODE") else {
        skipped("the_javascript_sdk_creates_and_calls_a_function", "no SDK: run `cargo xtask setup`");
        return;
    };
    let mut command = Command::new("node");
    command.arg(script("sdk.mjs")).arg(node.join("node_modules"));
    let out = run(command, environment(&platform).await).await;
    assert!(out.contains("hello sdk"), "{out}");
}

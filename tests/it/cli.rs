//! The command line for scripts: exit codes, one line for each error, tokens on standard output.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Command, Output, Stdio},
};

/// The program without this process's settings, in a directory of its own.
fn fleet_manager(args: &[&str]) -> (Command, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleet-manager"));
    command.args(args).current_dir(dir.path()).stdin(Stdio::null()).env_remove("DATABASE_URL");
    let ours = |name: &str| ["FLEET_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    (command, dir)
}

fn run(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let (mut command, _dir) = fleet_manager(args);
    command.envs(variables.iter().copied()).output().unwrap()
}

/// The one line on standard error, of a program that ended with `code` and printed nothing else.
#[track_caller]
fn complaint(output: &Output, code: i32) -> String {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(output.stdout.is_empty());
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("fleet-manager: "), "{error}");
    error
}

#[test]
fn help_documents_every_setting_and_shows_no_secret() {
    for command in ["serve", "worker", "migrate", "demo"] {
        let secrets = [
            ("DATABASE_URL", "postgres://u:hunter2@h/d"),
            ("FLEET_ARM_TOKEN", "hunter2"),
            ("AZURE_CLIENT_SECRET", "hunter2"),
            ("FLEET_WEBHOOKS", "hunter2"),
        ];
        let output = run(&[command, "--help"], &secrets);
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert!(!help.contains("hunter2"));
        for variable in [
            "AZURE_AUTHORITY_HOST",
            "AZURE_CLIENT_ID",
            "AZURE_CLIENT_SECRET",
            "AZURE_FEDERATED_TOKEN_FILE",
            "AZURE_TENANT_ID",
            "DATABASE_URL",
            "FLEET_ARM_CA",
            "FLEET_ARM_CREDENTIAL",
            "FLEET_ARM_ENDPOINT",
            "FLEET_ARM_TOKEN",
            "FLEET_AUTH",
            "FLEET_AUTH_AUDIENCE",
            "FLEET_DATABASE_CONNECTIONS",
            "FLEET_DATA_DIR",
            "FLEET_LISTEN",
            "FLEET_LOG",
            "FLEET_LOG_FORMAT",
            "FLEET_MAX_BODY_BYTES",
            "FLEET_MAX_CONNECTIONS",
            "FLEET_IDLE_CONNECTION_SECONDS",
            "FLEET_BODY_SECONDS",
            "FLEET_READS_PER_SECOND",
            "FLEET_WRITES_PER_SECOND",
            "FLEET_DELETES_PER_SECOND",
            "FLEET_INSECURE_LOCAL_AUTH",
            "FLEET_PG_BIN",
            "FLEET_PUBLIC_URL",
            "FLEET_SHUTDOWN_SECONDS",
            "FLEET_OFFER_RECHECK_SECONDS",
            "FLEET_STOPPED_CLUSTERS",
            "FLEET_PASS_THROUGH",
            "FLEET_SUBSCRIPTIONS",
            "FLEET_TENANT_ID",
            "FLEET_WINDOW_RECHECK_SECONDS",
            "FLEET_WORKER_CONCURRENCY",
            "FLEET_WEBHOOKS",
            "FLEET_WEBHOOK_CA",
            "FLEET_WEBHOOK_CONCURRENCY",
            "FLEET_WEBHOOK_RETRY_SECONDS",
            "FLEET_WEBHOOK_TIMEOUT_SECONDS",
            "FLEET_EVENT_DAYS",
            "FLEET_DEAD_LETTER_DAYS",
            "FLEET_AUDIT_DAYS",
            "FLEET_OPERATION_DAYS",
        ] {
            assert!(help.contains(&format!("[env: {variable}")), "{command} --help lacks {variable}");
        }
    }
}

#[test]
fn a_bad_setting_stops_the_start_with_one_line() {
    for (name, value, expected) in [
        ("DATABASE_URL", "mysql://u:hunter2@h/d", "DATABASE_URL"),
        ("FLEET_LISTEN", "localhost", "--listen"),
        ("FLEET_LISTEN", "", "--listen"),
        ("FLEET_ARM_ENDPOINT", "nonsense url", "--arm-endpoint"),
        ("FLEET_ARM_ENDPOINT", "https://management.azure.com", "FLEET_ARM_CREDENTIAL=emulator"),
        ("FLEET_ARM_CREDENTIAL", "password", "[possible values: emulator, static, azure-cli"),
        ("FLEET_ARM_CREDENTIAL", "client-secret", "AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET"),
        ("FLEET_ARM_CREDENTIAL", "workload-identity", "AZURE_FEDERATED_TOKEN_FILE"),
        ("FLEET_ARM_CA", "ca.pem", "FLEET_ARM_CA"),
        ("FLEET_ARM_CREDENTIAL", "static", "FLEET_ARM_TOKEN"),
        ("FLEET_ARM_TOKEN", "hunter2", "FLEET_ARM_TOKEN"),
        ("FLEET_AUTH", "http://id.example", "with https"),
        ("FLEET_AUTH", "none", "expected 'local'"),
        ("FLEET_AUTH_AUDIENCE", "a,,b", "FLEET_AUTH_AUDIENCE"),
        ("FLEET_PASS_THROUGH", "managedClusters", "FLEET_PASS_THROUGH"),
        ("FLEET_SUBSCRIPTIONS", "production", "--subscriptions"),
        ("FLEET_TENANT_ID", "contoso", "--tenant-id"),
        ("FLEET_LOG", "=,=", "FLEET_LOG"),
        ("FLEET_LOG_FORMAT", "xml", "--log-format"),
        ("FLEET_WORKER_CONCURRENCY", "0", "--worker-concurrency"),
        ("FLEET_DATABASE_CONNECTIONS", "many", "--database-connections"),
        ("FLEET_STOPPED_CLUSTERS", "Upgrade", "--stopped-clusters"),
        ("FLEET_OFFER_RECHECK_SECONDS", "0", "--offer-recheck-seconds"),
        ("FLEET_WINDOW_RECHECK_SECONDS", "soon", "--window-recheck-seconds"),
        ("FLEET_MAX_BODY_BYTES", "1", "--max-body-bytes"),
        ("FLEET_SHUTDOWN_SECONDS", "-1", "--shutdown-seconds"),
        ("FLEET_WEBHOOKS", "[{\"name\": \"a\", \"secretEnv\": \"A\", \"url\": \"http://h/hunter2\"}]", "https"),
        ("FLEET_WEBHOOK_TIMEOUT_SECONDS", "0", "--webhook-timeout-seconds"),
        ("FLEET_AUDIT_DAYS", "0", "--audit-days"),
        ("FLEET_LISTN", "127.0.0.1:1", "FLEET_LISTN"),
    ] {
        for command in ["serve", "worker", "migrate"] {
            let line = complaint(&run(&[command], &[(name, value)]), 2);
            assert!(line.contains(expected), "{command} {name}={value}: {line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
    }
}

/// Settings under which the service would give tokens to strangers, or under which tokens would travel in the clear, end the start
/// with exit code 2. With all other settings the start fails only at the port, which this test holds.
#[test]
fn no_settings_hand_tokens_to_strangers() {
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (here, open) = (format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"));
    let issuer = "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111/v2.0";
    let azure = [("FLEET_ARM_ENDPOINT", "https://management.azure.com"), ("FLEET_ARM_CREDENTIAL", "azure-cli")];
    let tls = [("FLEET_TLS_CERT", "c.pem"), ("FLEET_TLS_KEY", "k.pem")];
    for auth in ["", "local", issuer] {
        for listen in [&here, &open] {
            for upstream in [&[][..], &[("FLEET_ARM_ENDPOINT", "http://emulator:8090")], &azure] {
                for tls in [&[][..], &tls] {
                    for insecure in [&[][..], &[("FLEET_INSECURE_LOCAL_AUTH", "true")]] {
                        let mut env = [&[("FLEET_LISTEN", listen.as_str())], upstream, tls, insecure].concat();
                        if !auth.is_empty() {
                            env.push(("FLEET_AUTH", auth));
                        }
                        let (insecure, near) = (!insecure.is_empty(), listen == &here);
                        let starts = match auth == issuer {
                            true => !insecure && (near || !tls.is_empty()),
                            false => insecure || (near && upstream.is_empty()),
                        };
                        let line = complaint(&run(&["serve"], &env), if starts { 1 } else { 2 });
                        let said = if starts { "cannot listen on" } else { "FLEET_" };
                        assert!(line.contains(said), "{env:?}: {line}");
                        // A worker gives no tokens away.
                        if !starts && !insecure {
                            assert!(line.contains("set FLEET_") || line.contains("Set FLEET_"), "{line}");
                        }
                    }
                }
            }
        }
    }
    let line = complaint(&run(&["demo", "--listen", &open], &[]), 2);
    assert!(line.contains("FLEET_AUTH=local") && line.contains("FLEET_INSECURE_LOCAL_AUTH=true"), "{line}");
    assert!(complaint(&run(&["serve"], &[("FLEET_INSECURE_LOCAL_AUTH", "1")]), 2).contains("--insecure-local-auth"));
    assert!(complaint(&run(&["serve"], &[("FLEET_PUBLIC_URL", "fleet.example")]), 2).contains("--public-url"));
}

/// Docker is not needed to see that its settings are those of the program, and that a start without an issuer is refused.
#[test]
fn containers_pass_on_who_may_use_the_service() {
    let read = |file: &str| std::fs::read_to_string(format!("{}/docker/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (compose, dockerfile) = (read("compose.yaml"), read("Dockerfile"));
    let help = String::from_utf8(run(&["serve", "--help"], &[]).stdout).unwrap();
    let settings: Vec<&str> = compose
        .lines()
        .filter_map(|line| line.strip_prefix("      ")?.split_once(':'))
        .map(|(name, _)| name)
        .filter(|name| ["FLEET_", "AZURE_", "DATABASE_"].iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    for name in &settings {
        assert!(help.contains(&format!("[env: {name}")), "compose.yaml sets {name}, which is no setting");
    }
    for name in ["FLEET_OWNERS", "FLEET_TLS_CERT", "FLEET_TLS_KEY", "FLEET_PUBLIC_URL", "FLEET_INSECURE_LOCAL_AUTH"] {
        assert!(settings.contains(&name), "compose.yaml does not pass on {name}");
    }
    assert!(compose.contains("FLEET_AUTH: ${FLEET_AUTH:?"), "compose.yaml starts without FLEET_AUTH");
    assert!(!compose.contains("INSECURE_LOCAL_AUTH: "), "compose.yaml allows local tokens by itself");
    assert!(compose.contains("/readyz") && !compose.contains("/dev/tcp"), "a health check asks for readiness");
    // The address that the image listens on is refused with local tokens.
    let listen = dockerfile.split_once("FLEET_LISTEN=").unwrap().1.split_whitespace().next().unwrap();
    let line = complaint(&run(&["serve"], &[("FLEET_LISTEN", listen)]), 2);
    assert!(line.contains("FLEET_INSECURE_LOCAL_AUTH"), "{line}");
}

#[test]
fn an_incomplete_credential_stops_the_start_with_one_line() {
    let full = [
        ("FLEET_ARM_CREDENTIAL", "client-secret"),
        ("AZURE_TENANT_ID", "contoso.com"),
        ("AZURE_CLIENT_ID", "33333333-3333-3333-3333-333333333333"),
        ("AZURE_CLIENT_SECRET", "hunter2"),
    ];
    for (name, value, expected) in [
        ("AZURE_CLIENT_SECRET", "", "needs AZURE_CLIENT_SECRET"),
        ("AZURE_TENANT_ID", "a/b", "AZURE_TENANT_ID is not a tenant"),
        ("AZURE_AUTHORITY_HOST", "http://login.example", "AZURE_AUTHORITY_HOST"),
        ("FLEET_ARM_TOKEN", "hunter2", "FLEET_ARM_CREDENTIAL=static only"),
        ("FLEET_ARM_ENDPOINT", "http://arm.example", "must be https"),
    ] {
        let line = complaint(&run(&["worker"], &[&full[..], &[(name, value)]].concat()), 2);
        assert!(line.contains(expected) && !line.contains("hunter2"), "{name}={value}: {line}");
    }
}

#[test]
fn a_misspelt_variable_stops_every_command() {
    for command in ["demo", "serve", "worker", "emulator", "migrate", "token"] {
        let line = complaint(&run(&[command], &[("FLEET_DATADIR", "x")]), 2);
        assert!(line.contains("FLEET_DATADIR is no setting, but FLEET_DATA_DIR is"), "{line}");
    }
    // Variables of other programs are ignored.
    let output = run(&["token"], &[("FLEET_URL", "https://h"), ("FLEET_RG", "rg1")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let output = run(&["serve", "--listen", &listen], &[("FLEET_URL", "https://h")]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("FLEET_URL") && error.contains("cannot listen on"), "{error}");
}

#[test]
fn an_invalid_command_line_is_reported_in_one_line() {
    for args in [
        &["serve", "--lisen", "x"][..],
        &["fly"],
        &["token", "--expires-in", "soon"],
        &["token", "--object-id", "me"],
        &["emulator", "--upgrade-seconds", "-1"],
        &["emulator", "--clusters", "some"],
        &["demo", "--fresh", "--continue"],
    ] {
        complaint(&run(args, &[]), 2);
    }
    let output = run(&[], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("Usage:"));
}

#[test]
fn a_port_in_use_is_reported_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = complaint(&run(&["emulator", "--listen", &address], &[]), 1);
    assert!(line.contains(&format!("cannot listen on {address}")), "{line}");
    for args in [
        ["demo", "--listen", &address, "--emulator-listen", "127.0.0.1:0"],
        ["demo", "--emulator-listen", &address, "--listen", "127.0.0.1:0"],
    ] {
        let line = complaint(&run(&args, &[]), 1);
        assert!(line.contains(&format!("cannot listen on {address}")), "{line}");
    }
}

#[test]
fn tokens_come_from_one_key_in_the_data_directory() {
    let (mut command, dir) = fleet_manager(&["token", "--expires-in", "90m", "--app-id", "robot"]);
    let first = command.output().unwrap();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let token = String::from_utf8(first.stdout).unwrap();
    assert_eq!(token.trim_end().split('.').count(), 3);
    let key = dir.path().join(".fleet/keys/token-signing-key.pem");
    let before = std::fs::read(&key).unwrap();
    assert!(command.output().unwrap().status.success());
    assert_eq!(std::fs::read(&key).unwrap(), before);

    std::fs::write(&key, "not a key").unwrap();
    let line = complaint(&command.output().unwrap(), 1);
    assert!(line.contains("token-signing-key.pem"), "{line}");
}

#[test]
fn a_signal_stops_the_program_cleanly() {
    for signal in ["TERM", "INT"] {
        let (mut command, _dir) = fleet_manager(&["emulator", "--listen", "127.0.0.1:0"]);
        let mut emulator = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(emulator.stderr.take().unwrap()).lines();
        // The program handles signals before it logs that it listens.
        assert!(log.any(|line| line.unwrap().contains("emulator listens")));
        let kill = Command::new("sh").args(["-c", &format!("kill -{signal} {}", emulator.id())]).status().unwrap();
        assert!(kill.success());
        assert!(emulator.wait().unwrap().success(), "{signal}");
    }
}

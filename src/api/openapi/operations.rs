//! Every operation: where it is, what it takes, what it answers.

use utoipa::openapi::{
    Content, HeaderBuilder, HttpMethod, KnownFormat, ObjectBuilder, Ref, Required, ResponseBuilder, SchemaFormat, Type,
    path::{Operation as Described, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
    schema::SchemaType,
};

use crate::model::name;

/// An operation, before utoipa's terms.
pub(super) struct Operation {
    method: HttpMethod,
    path: String,
    id: &'static str,
    summary: &'static str,
    /// Besides those of the path and `api-version`.
    parameters: &'static [&'static str],
    takes: Option<&'static str>,
    answers: Vec<Answer>,
}

struct Answer {
    status: &'static str,
    description: &'static str,
    body: Option<&'static str>,
    headers: &'static [&'static str],
}

const PROVIDER: &str = "/providers/Microsoft.ContainerService";
const LOCATION: &str = "Location";
const RETRY_AFTER: &str = "Retry-After";
const ASYNC_OPERATION: &str = "Azure-AsyncOperation";
const IF_MATCH: &str = "If-Match";
const IF_NONE_MATCH: &str = "If-None-Match";
const FILTER: &str = "$filter";
const TOP: &str = "$top";
const SKIP_TOKEN: &str = "$skipToken";

/// All operations of the service's resource types.
pub(super) fn all() -> Vec<Operation> {
    let tenant = |rest: &str| format!("{PROVIDER}{rest}");
    let subscription = |rest: &str| format!("/subscriptions/{{subscriptionId}}{PROVIDER}{rest}");
    let group =
        |rest: &str| format!("/subscriptions/{{subscriptionId}}/resourceGroups/{{resourceGroupName}}{PROVIDER}{rest}");
    let fleet = |rest: &str| group(&format!("/fleets/{{fleetName}}{rest}"));
    let (member, strategy) = ("/members/{fleetMemberName}", "/updateStrategies/{updateStrategyName}");
    let (run, gate) = ("/updateRuns/{updateRunName}", "/gates/{gateName}");
    let profile = "/autoUpgradeProfiles/{autoUpgradeProfileName}";
    let paged: &[&str] = &[TOP, SKIP_TOKEN];
    let filtered: &[&str] = &[FILTER, TOP, SKIP_TOKEN];
    let conditional: &[&str] = &[IF_MATCH, IF_NONE_MATCH];
    let matching: &[&str] = &[IF_MATCH];
    vec![
        read("Operations_List", tenant("/operations"), "OperationListResult", &[], "List the provider's operations."),
        read(
            "Fleets_ListBySubscription",
            subscription("/fleets"),
            "FleetListResult",
            paged,
            "List fleets of a subscription.",
        ),
        read(
            "Fleets_ListByResourceGroup",
            group("/fleets"),
            "FleetListResult",
            paged,
            "List fleets of a resource group.",
        ),
        read("Fleets_Get", fleet(""), "Fleet", &[], "Get a fleet."),
        put("Fleets_CreateOrUpdate", fleet(""), "Fleet", "Create or replace a fleet."),
        patch("Fleets_Update", fleet(""), "FleetPatch", "Fleet", matching, "Change a fleet's tags and identity."),
        delete("Fleets_Delete", fleet(""), Some("Fleet"), "Delete a fleet with all that is in it; clusters stay."),
        post(
            "Fleets_ListCredentials",
            fleet("/listCredentials"),
            None,
            "FleetCredentialResults",
            "List the credentials of a fleet's hub cluster.",
        ),
        read("FleetMembers_ListByFleet", fleet("/members"), "FleetMemberListResult", filtered, "List members."),
        read("FleetMembers_Get", fleet(member), "FleetMember", &[], "Get a member."),
        put("FleetMembers_Create", fleet(member), "FleetMember", "Join a cluster."),
        patch(
            "FleetMembers_Update",
            fleet(member),
            "FleetMemberUpdate",
            "FleetMember",
            matching,
            "Change a member's group and labels.",
        ),
        delete("FleetMembers_Delete", fleet(member), Some("FleetMember"), "Leave the fleet; the cluster stays."),
        read(
            "FleetUpdateStrategies_ListByFleet",
            fleet("/updateStrategies"),
            "FleetUpdateStrategyListResult",
            paged,
            "List update strategies.",
        ),
        read("FleetUpdateStrategies_Get", fleet(strategy), "FleetUpdateStrategy", &[], "Get an update strategy."),
        put(
            "FleetUpdateStrategies_CreateOrUpdate",
            fleet(strategy),
            "FleetUpdateStrategy",
            "Create or replace an update strategy; runs keep their copy.",
        ),
        delete("FleetUpdateStrategies_Delete", fleet(strategy), None, "Delete an update strategy."),
        read("UpdateRuns_ListByFleet", fleet("/updateRuns"), "UpdateRunListResult", paged, "List update runs."),
        read("UpdateRuns_Get", fleet(run), "UpdateRun", &[], "Get an update run."),
        put(
            "UpdateRuns_CreateOrUpdate",
            fleet(run),
            "UpdateRun",
            "Create an update run, or replace one that was not started.",
        ),
        delete("UpdateRuns_Delete", fleet(run), None, "Delete an update run that upgrades nothing at the moment."),
        post_on_run("UpdateRuns_Skip", fleet(&format!("{run}/skip")), Some("SkipProperties"), "Leave something out."),
        post_on_run("UpdateRuns_Start", fleet(&format!("{run}/start")), None, "Start or restart an update run."),
        post_on_run("UpdateRuns_Stop", fleet(&format!("{run}/stop")), None, "Stop an update run."),
        read(
            "AutoUpgradeProfiles_ListByFleet",
            fleet("/autoUpgradeProfiles"),
            "AutoUpgradeProfileListResult",
            paged,
            "List auto-upgrade profiles.",
        ),
        read("AutoUpgradeProfiles_Get", fleet(profile), "AutoUpgradeProfile", &[], "Get an auto-upgrade profile."),
        put(
            "AutoUpgradeProfiles_CreateOrUpdate",
            fleet(profile),
            "AutoUpgradeProfile",
            "Create or replace an auto-upgrade profile.",
        ),
        delete_without_ok(
            "AutoUpgradeProfiles_Delete",
            fleet(profile),
            "Delete an auto-upgrade profile; its runs stay.",
        ),
        Operation {
            answers: vec![ok("GenerateResponse"), generated()],
            ..post(
                "AutoUpgradeProfileOperations_GenerateUpdateRun",
                fleet(&format!("{profile}/generateUpdateRun")),
                None,
                "GenerateResponse",
                "Make the update run for an auto-upgrade profile's present target; it is not started.",
            )
        },
        read("Gates_ListByFleet", fleet("/gates"), "GateListResult", filtered, "List gates."),
        read("Gates_Get", fleet(gate), "Gate", &[], "Get a gate."),
        patch("Gates_Update", fleet(gate), "GatePatch", "Gate", conditional, "Complete a gate."),
        read(
            "OperationStatus_Get",
            subscription("/locations/{location}/operations/{operationId}"),
            "OperationStatus",
            &[],
            "Get the status of an asynchronous operation.",
        ),
        Operation {
            answers: vec![
                Answer { status: "202", description: "Not over.", body: None, headers: &[LOCATION, RETRY_AFTER] },
                Answer { status: "204", description: "Over, as wished.", body: None, headers: &[LOCATION] },
            ],
            ..read(
                "OperationResult_Get",
                subscription("/locations/{location}/operationresults/{operationId}"),
                "",
                &[],
                "Get the result of an asynchronous operation.",
            )
        },
    ]
}

fn ok(body: &'static str) -> Answer {
    Answer { status: "200", description: "Done.", body: Some(body), headers: &[] }
}

/// What clients must be ready for, as for Azure itself.
fn accepted(body: Option<&'static str>) -> Answer {
    let headers = &[ASYNC_OPERATION, LOCATION, RETRY_AFTER];
    Answer { status: "202", description: "Accepted: follow the operation.", body, headers }
}

fn read(
    id: &'static str,
    path: String,
    body: &'static str,
    parameters: &'static [&'static str],
    summary: &'static str,
) -> Operation {
    Operation { method: HttpMethod::Get, path, id, summary, parameters, takes: None, answers: vec![ok(body)] }
}

fn put(id: &'static str, path: String, body: &'static str, summary: &'static str) -> Operation {
    let created = Answer {
        status: "201",
        description: "Created: with Azure-AsyncOperation, follow it.",
        body: Some(body),
        headers: &[ASYNC_OPERATION, RETRY_AFTER],
    };
    let replaced = Answer { headers: &[ASYNC_OPERATION, RETRY_AFTER], ..ok(body) };
    let parameters = &[IF_MATCH, IF_NONE_MATCH];
    let answers = vec![replaced, created];
    Operation { method: HttpMethod::Put, path, id, summary, parameters, takes: Some(body), answers }
}

fn patch(
    id: &'static str,
    path: String,
    takes: &'static str,
    body: &'static str,
    parameters: &'static [&'static str],
    summary: &'static str,
) -> Operation {
    let answers = vec![ok(body), accepted(None)];
    Operation { method: HttpMethod::Patch, path, id, summary, parameters, takes: Some(takes), answers }
}

/// `shown`: the resource that a deletion which takes its time still shows.
fn delete(id: &'static str, path: String, shown: Option<&'static str>, summary: &'static str) -> Operation {
    let answers = vec![
        Answer { status: "200", description: "Deleted.", body: None, headers: &[] },
        accepted(shown),
        Answer { status: "204", description: "There was nothing to delete.", body: None, headers: &[] },
    ];
    Operation { method: HttpMethod::Delete, path, id, summary, parameters: &[IF_MATCH], takes: None, answers }
}

/// Clients take no 200 here, and none is sent.
fn delete_without_ok(id: &'static str, path: String, summary: &'static str) -> Operation {
    let mut operation = delete(id, path, None, summary);
    operation.answers.retain(|answer| answer.status != "200");
    operation
}

/// The official document names a request's header among those of this answer.
fn generated() -> Answer {
    Answer { headers: &[ASYNC_OPERATION, IF_MATCH, LOCATION], ..accepted(None) }
}

fn post(
    id: &'static str,
    path: String,
    takes: Option<&'static str>,
    body: &'static str,
    summary: &'static str,
) -> Operation {
    Operation { method: HttpMethod::Post, path, id, summary, parameters: &[], takes, answers: vec![ok(body)] }
}

fn post_on_run(id: &'static str, path: String, takes: Option<&'static str>, summary: &'static str) -> Operation {
    let answers = vec![ok("UpdateRun"), accepted(None)];
    Operation { parameters: &[IF_MATCH], answers, ..post(id, path, takes, "UpdateRun", summary) }
}

impl Operation {
    /// The path, verb and description in utoipa's terms.
    pub(super) fn describe(self) -> (String, HttpMethod, Described) {
        let mut builder =
            OperationBuilder::new().operation_id(Some(self.id)).summary(Some(self.summary)).parameter(api_version());
        let in_path = self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        for name in in_path {
            builder = builder.parameter(in_path_parameter(name));
        }
        for name in self.parameters {
            builder = builder.parameter(parameter(name));
        }
        if let Some(takes) = self.takes {
            let body = RequestBodyBuilder::new().content("application/json", json(takes));
            builder = builder.request_body(Some(body.required(Some(Required::True)).build()));
        }
        for answer in self.answers {
            let mut response = ResponseBuilder::new().description(answer.description);
            if let Some(body) = answer.body {
                response = response.content("application/json", json(body));
            }
            for name in answer.headers {
                response = response.header(*name, header(name));
            }
            builder = builder.response(answer.status, response);
        }
        let error = ResponseBuilder::new().description("An error.").content("application/json", json("ErrorResponse"));
        (self.path, self.method, builder.response("default", error).build())
    }
}

fn json(schema: &str) -> Content {
    Content::new(Some(Ref::from_schema_name(schema)))
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String))
}

fn integer() -> ObjectBuilder {
    let format = SchemaFormat::KnownFormat(KnownFormat::Int32);
    ObjectBuilder::new().schema_type(SchemaType::new(Type::Integer)).format(Some(format))
}

fn header(name: &str) -> utoipa::openapi::Header {
    let (schema, description) = match name {
        RETRY_AFTER => (integer(), "Seconds to wait before asking again."),
        LOCATION => (text(), "Where the operation's result will be."),
        _ => (text(), "Where the operation's status is; absent where the answer is final."),
    };
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

fn api_version() -> Parameter {
    ParameterBuilder::new()
        .name("api-version")
        .parameter_in(ParameterIn::Query)
        .required(Required::True)
        .schema(Some(text().min_length(Some(1))))
        .build()
}

fn parameter(name: &str) -> Parameter {
    let (place, schema, description) = match name {
        IF_MATCH => (ParameterIn::Header, text(), "Proceed only if the resource is this version; '*': if it exists."),
        IF_NONE_MATCH => (ParameterIn::Header, text(), "'*': proceed only if the resource does not exist."),
        TOP => (ParameterIn::Query, integer(), "Most items of a page."),
        SKIP_TOKEN => (ParameterIn::Query, text(), "Where to go on, from a nextLink."),
        _ => (ParameterIn::Query, text(), "Which items."),
    };
    let builder = ParameterBuilder::new().name(name).parameter_in(place).required(Required::False);
    builder.schema(Some(schema)).description(Some(description)).build()
}

fn in_path_parameter(name: &str) -> Parameter {
    let named = |max: usize| text().min_length(Some(1)).max_length(Some(max)).pattern(Some(NAME));
    let schema = match name {
        "subscriptionId" => text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid))),
        "resourceGroupName" => text().min_length(Some(1)).max_length(Some(90)),
        "fleetName" => named(name::MAX_TRACKED),
        "gateName" => text().min_length(Some(36)).max_length(Some(36)).pattern(Some(GUID)),
        "location" | "operationId" => text().min_length(Some(1)),
        _ => named(name::MAX_PROXY),
    };
    let builder = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path);
    builder.required(Required::True).schema(Some(schema)).build()
}

const NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const GUID: &str = "^[0-9a-f]{8}[-][0-9a-f]{4}[-][0-9a-f]{4}[-][0-9a-f]{4}[-][0-9a-f]{12}$";

#!/usr/bin/env bash
# What people do with the Azure CLI, against the service. AZ is the command; FLEET_URL and REQUESTS_CA_BUNDLE say where.
set -euo pipefail

export AZURE_CONFIG_DIR=${1:?usage: walk.sh FOLDER}
export AZURE_CORE_COLLECT_TELEMETRY=no AZURE_CORE_ONLY_SHOW_ERRORS=yes AZURE_CORE_NO_COLOR=yes
# Those of the SDKs' tests would be taken for its own.
unset AZURE_CLIENT_ID AZURE_CLIENT_SECRET AZURE_TENANT_ID
tenant=11111111-1111-1111-1111-111111111111
subscription=00000000-0000-0000-0000-000000000001
principal=33333333-3333-3333-3333-333333333333
fleets=/subscriptions/$subscription/resourceGroups/walk/providers/Microsoft.ContainerService/fleets
cluster=/subscriptions/$subscription/resourceGroups/rg1/providers/Microsoft.ContainerService/managedClusters/aks-1
version=api-version=2026-06-01

az() { "$AZ" "$@"; }

# is WANTED COMMAND...: what the command prints.
is() {
    local wanted=$1 found
    shift
    found=$("$@" -o tsv) || { echo "failed: $*" >&2; exit 1; }
    [ "$found" = "$wanted" ] || { echo "'$found' and not '$wanted' from: $*" >&2; exit 1; }
}

# refused WORDS COMMAND...: that it fails, and says so.
refused() {
    local wanted=$1 said
    shift
    if said=$("$@" -o none 2>&1); then
        echo "went well: $*" >&2
        exit 1
    fi
    [[ $said == *"$wanted"* ]] || { echo "'$said' and not '$wanted' from: $*" >&2; exit 1; }
}

az cloud register -n FleetManager --endpoint-resource-manager "$FLEET_URL"
az cloud set -n FleetManager
refused "AADSTS7000215" az login --service-principal -u $principal -p wrong --tenant $tenant
az login --service-principal -u $principal -p secret --tenant $tenant -o none
is 2 az account list --query 'length(@)'
is $subscription az account show --query id
is eastus az account list-locations --query "[?name=='eastus'].name | [0]"
is Registered az provider show -n Microsoft.ContainerService --query registrationState

echo "== groups and resources"
is Succeeded az group create -n walk -l westeurope --query properties.provisioningState
is true az group exists -n walk
is westeurope az group show -n WALK --query location
az rest --method put --url "$fleets/f1?$version" --body '{"location": "westeurope", "tags": {"a": "b"}}' -o none
az resource wait --created --ids "$fleets/f1" --api-version 2026-06-01 --interval 1
is Succeeded az resource show -g walk -n f1 --resource-type Microsoft.ContainerService/fleets --query properties.provisioningState
is f1 az resource list -g walk --query '[0].name'
is c az resource tag --ids "$fleets/f1" --tags b=c --query tags.b
is d az tag update --resource-id "$fleets/f1" --operation Merge --tags c=d --query properties.tags.c
refused ResourceNotFound az resource show --ids "$fleets/none"
refused ResourceGroupNotFound az group show -n none

echo "== roles"
person=aaaaaaaa-0000-4000-8000-000000000001
az role assignment create --assignee-object-id $person --assignee-principal-type User --role Reader --scope "$fleets/f1" -o none
is Reader az role assignment list --scope "$fleets/f1" --fill-principal-name false --query '[0].roleDefinitionName'
az role assignment delete --ids "$(az role assignment list --scope "$fleets/f1" --fill-principal-name false --query '[0].id' -o tsv)"
is 0 az role assignment list --scope "$fleets/f1" --fill-principal-name false --query 'length(@)'

echo "== clusters, through the service"
is aks-1 az aks show -g rg1 -n aks-1 --query name
az aks list --query '[].name' -o tsv | grep -qx aks-2
next=$(az aks get-upgrades -g rg1 -n aks-1 --query 'controlPlaneProfile.upgrades[0].kubernetesVersion' -o tsv)
az aks upgrade -g rg1 -n aks-1 --kubernetes-version "$next" --yes -o none
is "$next" az aks show -g rg1 -n aks-1 --query currentKubernetesVersion
is true az aks nodepool list -g rg1 --cluster-name aks-1 --query 'length(@) > `0`'
az aks get-credentials -g rg1 -n aks-1 --file "$AZURE_CONFIG_DIR/kubeconfig"
grep -q '^kind: Config' "$AZURE_CONFIG_DIR/kubeconfig"
az rest --method put --url "$fleets/f1/members/m1?$version" --body "{\"properties\": {\"clusterResourceId\": \"$cluster\"}}" -o none

echo "== people"
is local@fleet-manager.local az login -u local@fleet-manager.local -p secret --query '[0].user.name'
is walk az group show -n walk --query name
# az chooses an account by the subscription in a URL: it must know no other.
az account clear
refused "No subscriptions found" az login -u nobody@contoso.com -p secret
az login --service-principal -u $principal -p secret --tenant $tenant -o none
az group delete -n walk --yes
is false az group exists -n walk
az logout
echo passed

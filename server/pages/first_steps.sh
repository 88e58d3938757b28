ask() { curl -sf --retry 9 -H "Authorization: Bearer $KEY" "$@"; }

SALES=$(ask "$ADDRESS/v1/uploads" -H "Content-Type: text/csv" --data-binary @sales.csv | jq -r .sales)
JOB=$(ask "$ADDRESS/v1/fits" --json "{\"sales\": \"$SALES\"}" | jq -r .job.id)
ask -N "$ADDRESS/v1/jobs/$JOB/events"
MODEL=$(ask "$ADDRESS/v1/jobs/$JOB" | jq -r .result.published)

VERSION=$(ask "$ADDRESS/v1/aliases/champion" | jq .version)
ask -X PUT "$ADDRESS/v1/aliases/champion" -H "If-Match: \"$VERSION\"" --json "{\"model\": \"$MODEL\"}"

ITEM=$(ask "$ADDRESS/v1/items?limit=1" | jq -r .rows[0].item)
ask "$ADDRESS/v1/items/$ITEM/recommendation" | jq .decision
ask "$ADDRESS/v1/items/$ITEM/explanation" | jq -r .prose.full

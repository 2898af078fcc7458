/* SPDX-License-Identifier: Apache-2.0 */
/* FILE.sh: the tool for a shell, through curl. */
#include "json.h"
#include "tools/docs_stub.h"
#include "tools/docs_text.h"

#include <stdlib.h>

void docs_put_call_path(struct ramet_buf *out, const struct docs_tool *tool)
{
    docs_put(out, "/v1/tools/");
    docs_put_url(out, tool->server);
    docs_put(out, "/");
    docs_put_url(out, tool->name);
    docs_put(out, "/call");
}

/*
 * The answer's body, and its status as the last line. A token goes through a descriptor: arguments of a process are
 * for all to see. That the tool failed is a member of the outermost object alone, which awk looks for, strings and
 * depth minded, only where the word is there at all.
 */
static const char program[] =
    "case ${1-} in\n"
    "-) args=$(cat) ;;\n"
    "*) args=${1:-'{}'} ;;\n"
    "esac\n"
    "answer=$(printf '%s' \"$args\" | curl -sS --unix-socket \"${RAMET_SOCKET:-$socket}\" \\\n"
    "    -H 'Content-Type: application/json' ${RAMET_TOKEN:+-H @/dev/fd/3} --data-binary @- \\\n"
    "    -w '\\n%{http_code}' \"http://localhost$path\" 3<<EOF\n"
    "Authorization: Bearer ${RAMET_TOKEN-}\n"
    "EOF\n"
    ") || exit 2\n"
    "body=${answer%????}\n"
    "printf '%s' \"$body\"\n"
    "case $answer in\n"
    "*200) ;;\n"
    "*) exit 2 ;;\n"
    "esac\n"
    "case $body in\n"
    "*'\"isError\"'*)\n"
    "    printf '%s' \"$body\" | awk -v RS='\\001' '{\n"
    "        gsub(/\\\\./, \"\")\n"
    "        for (s = $0; match(s, /\"[^\"]*\"|[][{}]/); s = substr(s, RSTART + RLENGTH)) {\n"
    "            t = substr(s, RSTART, RLENGTH)\n"
    "            d += (t == \"{\" || t == \"[\") - (t == \"}\" || t == \"]\")\n"
    "            if (d == 1 && t == \"\\\"isError\\\"\" && substr(s, RSTART + RLENGTH) ~ /^[ \\t\\r\\n]*:[ "
    "\\t\\r\\n]*true/) exit 1\n"
    "        }\n"
    "    }' ;;\n"
    "esac\n";

void docs_put_sh(struct ramet_buf *out, const struct docs_tool *tool)
{
    struct ramet_buf path = {0};
    docs_put(out, "#!/bin/sh\n# ");
    docs_put_comment(out, ramet_json_str(tool->definition, "description", tool->name), 240);
    docs_putf(out,
              "\n# usage: %s.sh [JSON | -]; prints the result as JSON; exit status 1: the tool failed, 2: the call\n",
              tool->file);
    docs_put(out, "socket=");
    docs_put_shell(out, tool->socket);
    docs_put_call_path(&path, tool);
    char *text = docs_text_take(&path);
    docs_put(out, "\npath=");
    docs_put_shell(out, text ? text : "");
    docs_put(out, "\n");
    docs_put(out, program);
    out->failed |= !text;
    free(text);
}

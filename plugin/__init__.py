"""Our kinds of field as methods of nerfstudio: `ns-train fieldcast-hashgrid`. Extra `[nerfstudio]`.

`entry` is what nerfstudio finds; `methods` what it then can train, with `model` and `data`; `renders` makes data of
a field; `runs` is for runs that `fieldcast convert` wrote.
"""

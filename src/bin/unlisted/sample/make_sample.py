#!/usr/bin/env python3
"""Picks the demonstration's sample out of a larger population. Same input, same bytes.

make_sample.py FOLDER OUT: FOLDER has listings.csv.gz, address_books.jsonl.gz and numbers.csv.gz (libphonenumber's
reading of every contact). Takes the first address book of moderate size of each of 12 regions, with national forms
replaced by international ones, every listing that one of them hits, and others up to 5,000.
"""
import csv, gzip, io, json, os, random, sys

D, O = (os.path.join(folder, "") for folder in sys.argv[1:3])
rows=list(csv.reader(gzip.open(D+"listings.csv.gz","rt",newline="")))
head,rows=rows[0],rows[1:]
num={}
for r in csv.DictReader(gzip.open(D+"numbers.csv.gz","rt",encoding="utf-8",newline="")):
    num[(r["raw"],r["region"])]=(r["e164"],r["international"]=="1")
listed={}
for i,r in enumerate(rows): listed.setdefault(r[0],[]).append(i)
books=[];regions=set()
for l in gzip.open(D+"address_books.jsonl.gz","rt",encoding="utf-8"):
    b=json.loads(l)
    if not 60<=len(b["contacts"])<=260: continue
    if b["region"] in regions: continue
    regions.add(b["region"]); books.append(b)
    if len(books)==12: break
want=set();out=[]
for b in books:
    c=[]
    for raw in b["contacts"]:
        e,intl=num[(raw,b["region"])]
        c.append(raw if intl or not e else e)
        if e in listed: want.update(listed[e])
    out.append({"caller":b["caller"],"network":b["network"],"region":b["region"],"contacts":c})
rng=random.Random(7)
rest=[i for i in range(len(rows)) if i not in want]
picked=sorted(want|set(rng.sample(rest,5000-len(want))))
def gz(name,text):
    buf=io.BytesIO()
    with gzip.GzipFile(filename="",mode="wb",fileobj=buf,mtime=0,compresslevel=9) as f: f.write(text.encode())
    open(O+name,"wb").write(buf.getvalue()); print(name,len(buf.getvalue()))
s=io.StringIO(newline=""); w=csv.writer(s,lineterminator="\n"); w.writerow(head); w.writerows(rows[i] for i in picked)
gz("listings.csv.gz",s.getvalue())
gz("address_books.jsonl.gz","".join(json.dumps(b,ensure_ascii=False)+"\n" for b in out))
print(len(picked),len(want),[(b["region"],len(b["contacts"])) for b in out])
